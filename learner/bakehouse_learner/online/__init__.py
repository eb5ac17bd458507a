"""The learner as a process: its loop, Kafka, checkpoints, tracking in MLflow."""
