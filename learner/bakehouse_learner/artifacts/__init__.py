"""What is left on disk: bundles, checkpoints, warm starts, anchors, runs in MLflow."""
