"""What `--plot` draws."""
