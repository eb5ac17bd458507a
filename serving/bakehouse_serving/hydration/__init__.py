"""Features that are looked up by subject."""
