"""Policy → decision → Kafka: answers a game over HTTP, and loses nothing that it answered."""
