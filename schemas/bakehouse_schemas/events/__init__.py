"""What travels over Kafka and HTTP, and the checks that it passes."""
