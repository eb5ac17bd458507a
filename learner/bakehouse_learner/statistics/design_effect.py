"""How much wider is a mean's error because values of one subject are alike?

A player who spends, spends again: a thousand decisions of ten players say little about the next
player. Chance put subjects into the holdout, not decisions, so subjects are what must be counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bakehouse_learner.statistics.confidence_sequence import TAIL_COPIES

SHARES = 1_024
NOBODY = 0  # in place of a subject: it is not known whose a value is


def share_of(subject: np.ndarray, nobodies: int = 0) -> tuple[np.ndarray, int]:
    """The share of each subject, int `[n]`, and how many of nobody known have come so far.

    Args:
        subject: see `bakehouse_learner.replay.origin.subject_hash`, or NOBODY; uint64 `[n]`
        nobodies: values of nobody known that came before: each is somebody who was never seen.
    """
    # low bits: other figures forget subjects by the high ones
    share = (subject % np.uint64(SHARES)).astype(np.int64)
    nobody = subject == NOBODY
    alone = int(np.count_nonzero(nobody))
    share[nobody] = (nobodies + np.arange(alone)) % SHARES
    return share, nobodies + alone


class SubjectSums:
    """Weighted sums by share of subjects; a subject is in one share, by its hash.

    Whole shares are independent of each other whatever subjects do, so the squared error of
    `Σwx / Σw` is `Σ_k e_k² / (Σw)²`, with `e_k = Σ_{i in k} w_i (x_i − mean)` (a ratio of sums over
    clusters: Cochran 1977, "Sampling Techniques", section 9A; in hashed buckets: Chamandy,
    Muralidharan, Najmi & Naidu 2012, "Estimating uncertainty for massive data streams"). Memory is
    bounded; while subjects are fewer than shares, each is nearly always one of its own. A value of
    nobody known counts as somebody's who was never seen before.
    """

    def __init__(self) -> None:
        self._w = np.zeros(SHARES)
        self._wx = np.zeros(SHARES)  # about the first value, against cancellation
        self._origin: float | None = None
        self._nobodies = 0

    def add(self, subject: np.ndarray, values: np.ndarray, weights: np.ndarray) -> None:
        """Take values and whose they are.

        Args:
            subject: see `bakehouse_learner.replay.origin.subject_hash`, or NOBODY; uint64 `[n]`
            values, weights: float64 `[n]`; a weight of 0 changes nothing.
        """
        kept = weights > 0
        subject, values, weights = subject[kept], values[kept], weights[kept]
        if not len(values):
            return
        if self._origin is None:
            self._origin = float(values[0])
        share, self._nobodies = share_of(subject, self._nobodies)
        self._w += np.bincount(share, weights=weights, minlength=SHARES)
        x = values - self._origin
        self._wx += np.bincount(share, weights=weights * x, minlength=SHARES)

    @property
    def at_least(self) -> int:
        """Subjects, counted up to `SHARES`; those that share a share count once."""
        return int(np.count_nonzero(self._w))

    @property
    def squared_error(self) -> float:
        """Of the mean; 0 where there are no values.

        The share farthest off counts `TAIL_COPIES` times more, as the farthest value does in
        `bakehouse_learner.statistics.difference.squared_error`: few shares have seen too little of
        a heavy tail.
        """
        total = float(self._w.sum())
        if not total > 0.0:
            return 0.0
        apart = (self._wx - self._wx.sum() / total * self._w) ** 2
        return float(apart.sum() + TAIL_COPIES * apart.max()) / total**2

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        if self._origin is None:
            return {"origin": None}
        return {
            "origin": self._origin,
            "nobodies": self._nobodies,
            "w": self._w.tolist(),
            "wx": self._wx.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the sums that gave `state` had never stopped.

        Raises:
            ValueError: it is of another number of shares.
        """
        if state["origin"] is None:
            return  # nothing had come
        if len(state["w"]) != SHARES or len(state["wx"]) != SHARES:
            raise ValueError(f"{len(state['w'])} shares of subjects came; expected {SHARES}")
        self._origin, self._nobodies = float(state["origin"]), int(state["nobodies"])
        self._w, self._wx = np.array(state["w"]), np.array(state["wx"])
