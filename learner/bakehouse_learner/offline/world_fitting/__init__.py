"""A world fitted to a log, and how far it agrees with it."""
