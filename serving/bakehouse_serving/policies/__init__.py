"""Which policy answers: consumed from Kafka, loaded, put in the slot, and audited."""
