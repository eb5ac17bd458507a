"""How much wider is a mean's error because values of one subject are alike?

A player who spends, spends again: a thousand decisions of ten players say little about the next
player. Chance put subjects into the holdout, not decisions, so subjects are what must be counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from learner.confidence import TAIL_COPIES

SHARES = 1_024


class SubjectSums:
    """Sums of values by share of subjects; a subject is in one share, by its hash.

    Whole shares are independent of each other whatever subjects do, so a mean's squared error is
    `Σ_k e_k² / n²`, with `e_k = Σ_{i in k} (x_i − mean)` (a ratio of sums over clusters: Cochran
    1977, "Sampling Techniques", section 9A; in hashed buckets: Chamandy, Muralidharan, Najmi &
    Naidu 2012, "Estimating uncertainty for massive data streams"). Memory is bounded; while
    subjects are fewer than shares, each is nearly always one of its own.
    """

    def __init__(self) -> None:
        self._n = np.zeros(SHARES, dtype=np.int64)
        self._sums = np.zeros(SHARES)  # about the first value, against cancellation
        self._origin: float | None = None

    def add(self, subject: np.ndarray, values: np.ndarray) -> None:
        """Take values and whose they are.

        Args:
            subject: see `learner.origin.subject_hash`, uint64 `[n]`
            values: float64 `[n]`
        """
        if not len(values):
            return
        if self._origin is None:
            self._origin = float(values[0])
        # low bits: `SampleRatio` forgets subjects by the high ones
        share = (subject % np.uint64(SHARES)).astype(np.int64)
        self._n += np.bincount(share, minlength=SHARES)
        self._sums += np.bincount(share, weights=values - self._origin, minlength=SHARES)

    @property
    def at_least(self) -> int:
        """Subjects, counted up to `SHARES`; those that share a share count once."""
        return int(np.count_nonzero(self._n))

    @property
    def squared_error(self) -> float:
        """Of the mean of all values; 0 where there are none.

        The share farthest off counts `TAIL_COPIES` times more, as the farthest value does in
        `learner.confidence.squared_error`: few shares have seen too little of a heavy tail.
        """
        n = int(self._n.sum())
        if n == 0:
            return 0.0
        apart = (self._sums - self._sums.sum() / n * self._n) ** 2
        return float(apart.sum() + TAIL_COPIES * apart.max()) / n**2

    def state(self) -> dict[str, Any]:
        """Everything: `json` as JSON carries it, the rest arrays."""
        return {
            "json": {"origin": self._origin},
            "n": self._n.copy(),
            "sums": self._sums.copy(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the sums that gave `state` had never stopped. Raises ValueError."""
        if state["n"].shape != self._n.shape:
            raise ValueError(f"{len(state['n'])} shares of subjects came; expected {SHARES}")
        self._origin = state["json"]["origin"]
        self._n, self._sums = state["n"].astype(np.int64), state["sums"].astype(np.float64)
