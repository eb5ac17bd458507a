"""How has reward, and what is done, gone over time? Buckets that double when there are too many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bakehouse_learner.insight.sums import WeightedSums

BUCKETS = 240
FIRST_BUCKET_MS = 5_000  # at 100 decisions a second, 50 of a holdout of 10%: enough for a line
MOST_ACTIONS = 12  # that are told by name; of more, the others together
OTHERS = "(others)"
LINES = ("policy", "holdout", "random")


class Series:
    """Means and bounds by time of arrival at the broker, counts of choices, and versions.

    `random` is a uniform choice by evaluation: rewards weighted by uniform / propensity, where
    chance had a say. A bucket's bounds hold at every look while it fills, and when it doubles.

    Args:
        alpha: 1 − confidence, of each bucket.
        choices: names of what is counted; empty where actions have no names.
    """

    def __init__(self, alpha: float, choices: Sequence[str]) -> None:
        self._alpha = alpha
        self._choices = list(choices)
        self.bucket_ms = FIRST_BUCKET_MS
        self.start_ms: int | None = None
        self._lines = {name: WeightedSums(BUCKETS) for name in LINES}
        self._actions = np.zeros((BUCKETS, len(self._choices)), dtype=np.int64)
        self._version = np.full(BUCKETS, -1, dtype=np.int64)  # the last that was seen

    def _buckets(self, at_ms: np.ndarray) -> np.ndarray:
        """Where times belong, int `[n]`, made coarser until they fit."""
        if self.start_ms is None:
            self.start_ms = int(at_ms.min()) // FIRST_BUCKET_MS * FIRST_BUCKET_MS
        while (int(at_ms.max()) - self.start_ms) // self.bucket_ms >= BUCKETS:
            self._coarsen()
        return np.asarray(np.maximum(at_ms - self.start_ms, 0) // self.bucket_ms)

    def _coarsen(self) -> None:
        for line in self._lines.values():
            line.merge_pairs()
        half = BUCKETS // 2
        even, odd = self._actions[::2].copy(), self._actions[1::2].copy()
        self._actions[:half], self._actions[half:] = even + odd, 0
        first, second = self._version[::2].copy(), self._version[1::2].copy()
        self._version[:half] = np.where(second >= 0, second, first)
        self._version[half:] = -1
        self.bucket_ms *= 2

    def add(
        self, line: str, at_ms: np.ndarray, values: np.ndarray, weights: np.ndarray | None = None
    ) -> None:
        """Take values of one line.

        Args:
            at_ms: broker times, int64 `[n]`
            values: float64 `[n]`
            weights: float64 `[n]`; None: all alike.
        """
        if len(at_ms):
            weights = np.ones(len(values)) if weights is None else weights
            self._lines[line].add(self._buckets(at_ms), values, weights)

    def count(self, at_ms: np.ndarray, version: np.ndarray, choices: Sequence[np.ndarray]) -> None:
        """Take decisions of policies.

        Args:
            at_ms: broker times, int64 `[n]`
            version: int64 `[n]`
            choices: of each part that has labels, the choice made, int `[n]`
        """
        if not len(at_ms):
            return
        buckets = self._buckets(at_ms)
        for choice in choices:
            np.add.at(self._actions, (buckets, choice), 1)
        self._version[buckets] = version  # of several the last stays

    def figures(self) -> dict[str, Any]:
        """As JSON carries it; buckets in which nothing happened are left out."""
        counted = np.any([line.n > 0 for line in self._lines.values()], axis=0)
        there = np.flatnonzero(counted | (self._version >= 0))
        start = self.start_ms or 0
        version = self._version[there].tolist()
        return {
            "bucket_ms": self.bucket_ms,
            "at_ms": (start + there * self.bucket_ms).tolist(),
            **{name: self._line(line, there) for name, line in self._lines.items()},
            "actions": self._by_name(there),
            "version": [None if number < 0 else number for number in version],
        }

    def _line(self, line: WeightedSums, there: np.ndarray) -> dict[str, Any]:
        found = line.bounds_of(there, self._alpha)
        return {"n": line.n[there].tolist()} | {
            name: [bounded[place] for bounded in found]
            for place, name in enumerate(("mean", "lower", "upper"))
        }

    def _by_name(self, there: np.ndarray) -> dict[str, list[int]]:
        counts = self._actions[there]
        order = np.argsort(-counts.sum(axis=0), kind="stable")
        named = order if len(order) <= MOST_ACTIONS else order[: MOST_ACTIONS - 1]
        told = {self._choices[at]: counts[:, at].tolist() for at in sorted(named.tolist())}
        if len(named) < len(order):
            told[OTHERS] = counts[:, order[len(named) :]].sum(axis=1).tolist()
        return told

    def state(self) -> dict[str, Any]:
        """Everything: `json` as JSON carries it, the rest arrays."""
        return {
            "json": {"bucket_ms": self.bucket_ms, "start_ms": self.start_ms},
            "actions": self._actions.copy(),
            "version": self._version.copy(),
            **{name: line.state() for name, line in self._lines.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the series that gave `state` had never stopped. Raises ValueError."""
        if state["actions"].shape != self._actions.shape:
            raise ValueError(f"counts {state['actions'].shape}; expected {self._actions.shape}")
        self.bucket_ms = int(state["json"]["bucket_ms"])
        self.start_ms = state["json"]["start_ms"]
        self._actions = state["actions"].astype(np.int64)
        self._version = state["version"].astype(np.int64)
        for name, line in self._lines.items():
            line.restore(state[name])
