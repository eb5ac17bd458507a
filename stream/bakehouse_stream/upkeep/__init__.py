"""What is done to the tables beside the query: repair, compaction, retention."""
