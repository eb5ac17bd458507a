"""The replay table: its columns, the fold of its rows, and the account of what was consumed."""
