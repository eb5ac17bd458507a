"""A mean over about the last thousand values, in constant space. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

REMEMBERED = 1_000  # values that the mean is over


class RecentMean:
    """Mean of all values while they are few, then with weights that fade exponentially."""

    def __init__(self) -> None:
        self.mean = 0.0
        self.n = 0  # values ever

    def update(self, values: np.ndarray) -> None:
        """Take the next values, float or bool `[n]`."""
        if not len(values):
            return
        self.n += len(values)
        weight = min(1.0, len(values) / min(self.n, REMEMBERED))
        self.mean += weight * (float(np.mean(values)) - self.mean)

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        return {"mean": self.mean, "n": self.n}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the mean that gave `state` had never stopped."""
        self.mean, self.n = float(state["mean"]), int(state["n"])
