"""`bakehouse demo`: its home, its screen and its report."""
