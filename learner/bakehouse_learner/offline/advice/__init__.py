"""What does a log say about the page itself? Each file answers one question, in findings."""
