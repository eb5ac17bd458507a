"""Events between an answer and Kafka: on disk before they are acknowledged."""
