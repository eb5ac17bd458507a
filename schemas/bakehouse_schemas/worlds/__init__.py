"""Simulated players: written, or fitted to a log; and how well a policy does among them."""
