"""The streaming queries: decisions with their outcomes, appended exactly once, over restarts."""
