"""What comes from Kafka: offsets, records decoded, positions without a record, event time."""
