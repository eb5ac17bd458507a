"""The search for settings: its space, its objective, its runs."""
