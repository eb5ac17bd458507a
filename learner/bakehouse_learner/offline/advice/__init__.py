"""What does a log say about the application itself? Each file answers one question, in findings."""
