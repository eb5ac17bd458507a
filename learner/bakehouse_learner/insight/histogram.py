"""Which numbers were answered, by policies and to the holdout?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

BINS = 32


class Histogram:
    """Counts of one bounded number.

    Args:
        name: what people call it.
        low, high: its bounds; outside them the nearest bin counts.
    """

    def __init__(self, name: str, low: float, high: float) -> None:
        self.name, self.low, self.high = name, low, high
        self._counts = np.zeros((2, BINS), dtype=np.int64)  # policy, holdout

    def add(self, numbers: np.ndarray, policy: np.ndarray, holdout: np.ndarray) -> None:
        """Take numbers, float64 `[n]`, and whose they are, bool `[n]`."""
        place = (numbers - self.low) / (self.high - self.low) * BINS
        bins = np.clip(place.astype(int), 0, BINS - 1)
        for counts, mine in zip(self._counts, (policy, holdout), strict=True):
            counts += np.bincount(bins[mine], minlength=BINS)

    def figures(self) -> dict[str, Any]:
        """As JSON carries it."""
        return {
            "name": self.name,
            "low": self.low,
            "high": self.high,
            "policy": self._counts[0].tolist(),
            "holdout": self._counts[1].tolist(),
        }

    def state(self) -> dict[str, Any]:
        """Everything, in arrays."""
        return {"counts": self._counts.copy()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the histogram that gave `state` had never stopped. Raises ValueError."""
        if state["counts"].shape != self._counts.shape:
            raise ValueError(f"counts {state['counts'].shape}; expected {self._counts.shape}")
        self._counts = state["counts"].astype(np.int64)
