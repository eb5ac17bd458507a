"""One training step and what it takes: minibatches, returns, normaliser, cadence."""
