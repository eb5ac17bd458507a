"""The Delta tables, their logs, and the account of every position that was consumed."""
