"""A decision, made or made again: who answers a subject, with what, and its event."""
