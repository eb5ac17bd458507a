"""Simulated players over HTTP or Kafka, as a game would be."""
