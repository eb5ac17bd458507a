"""What is learned from: the table followed, decisions decoded, kept in a ring, and matured."""
