"""Why a decision was made as it was, from the tables, in a process of its own."""
