"""Means, differences and their bounds at any time."""
