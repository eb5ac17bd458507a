"""The ground floor: what all parts agree on. Pydantic, NumPy and the standard library only."""
