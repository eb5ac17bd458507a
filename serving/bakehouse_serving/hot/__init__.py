"""The path of a decision and of an outcome, from the bytes of a request to its answer."""
