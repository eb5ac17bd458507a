"""A policy in NumPy, and the bundle that carries it."""
