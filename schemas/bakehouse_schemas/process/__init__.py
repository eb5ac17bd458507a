"""What every process has: settings, keys, logs, spans, failpoints, files of its state."""
