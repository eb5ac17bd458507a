"""Training from history."""
