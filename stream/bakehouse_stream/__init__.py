"""Stream: Kafka to Delta through Spark Structured Streaming; decisions joined with outcomes."""
