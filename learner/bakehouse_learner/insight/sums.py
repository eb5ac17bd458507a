"""Self-normalised means of many groups at once (buckets of time, actions), and their bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bakehouse_learner.ope.estimate import effective_sample
from bakehouse_learner.statistics.confidence_sequence import ROUNDING, boundary
from bakehouse_learner.statistics.difference import squared_error

BURN_IN = 30  # values of positive weight before the first bounds
TIGHTEST_AT = 200  # values at which they are narrowest
CANCELLED = 1e-12  # share of a sum of squares that may be left by rounding where all cancels
LARGEST_WEIGHT = 1e75  # what is beyond it, or below its inverse, leaves float64 when squared


class Bounded(NamedTuple):
    """A mean and bounds that hold at every look; None where there is none yet, or no variance."""

    mean: float | None
    lower: float | None
    upper: float | None


class WeightedSums:
    """`Σwx / Σw` of K groups. Additions commute, and groups can be added to each other.

    Bounds are those of `bakehouse_learner.statistics.difference.DifferenceSequence`, of one group
    alone and with each value on its own.

    Args:
        groups: K.
    """

    def __init__(self, groups: int) -> None:
        self.n = np.zeros(groups, dtype=np.int64)  # values of positive weight
        self._sums = np.zeros((5, groups))  # w, wx, ww, wwx, wwxx
        self._farthest = np.zeros(groups)  # largest w·|x|
        self._origin: float | None = None  # sums are about the first value, against cancellation

    def add(self, group: np.ndarray, values: np.ndarray, weights: np.ndarray) -> None:
        """Take values; those whose weight is 0, or no number that can be squared, change nothing.

        Args:
            group: int `[n]`
            values, weights: float64 `[n]`
        """
        kept = (weights <= LARGEST_WEIGHT) & (weights >= 1 / LARGEST_WEIGHT) & np.isfinite(values)
        if not kept.any():
            return
        group, values, w = group[kept], values[kept], weights[kept]
        if self._origin is None:
            self._origin = float(values[0])
        x, size = values - self._origin, len(self.n)
        self.n += np.bincount(group, minlength=size)
        for sums, terms in zip(self._sums, (w, w * x, w**2, w**2 * x, w**2 * x**2), strict=True):
            sums += np.bincount(group, weights=terms, minlength=size)
        np.maximum.at(self._farthest, group, w * np.abs(x))

    def mean(self, group: int) -> float | None:
        """Of one group; None where nothing of it has come."""
        if not self.n[group] or self._origin is None:
            return None
        return float(self._origin + self._sums[1, group] / self._sums[0, group])

    def bounds(self, group: int, alpha: float) -> Bounded:
        """Mean and bounds of one group."""
        return self.bounds_of(np.array([group]), alpha)[0]

    def bounds_of(self, groups: np.ndarray, alpha: float) -> list[Bounded]:
        """Mean and bounds of some groups, int `[m]`."""
        if self._origin is None:
            return [Bounded(None, None, None)] * len(groups)
        n, sums = self.n[groups], self._sums[:, groups]
        with np.errstate(invalid="ignore", divide="ignore"):  # of groups without any value
            means = self._origin + sums[1] / sums[0]
            errors = np.sqrt(squared_error(sums, self._farthest[groups]))
            alike = self._alike(groups)
        found = []
        for size, mean, error, same in zip(
            n.tolist(), means.tolist(), errors.tolist(), alike.tolist(), strict=True
        ):
            if size < BURN_IN or same:
                found.append(Bounded(mean if size else None, None, None))
                continue
            half = error * boundary(size, alpha, TIGHTEST_AT)
            found.append(Bounded(mean, mean - half, mean + half))
        return found

    def _alike(self, groups: np.ndarray) -> np.ndarray:
        """Whether the values of each group are all the same but for rounding. bool `[m]`"""
        sums, origin = self._sums[:, groups], self._origin or 0.0
        apart = squared_error(sums, 0.0) * sums[0] ** 2  # Σw²(x − mean)²
        return np.asarray(apart <= CANCELLED * sums[4] + ROUNDING**2 * origin**2 * sums[2])

    def effective_sample(self, group: int) -> float:
        """`(Σw)² / Σw²` (Kish 1965)."""
        return effective_sample(float(self._sums[0, group]), float(self._sums[2, group]))

    def merge_pairs(self) -> None:
        """Groups 2k and 2k + 1 become group k; the upper half is empty afterwards."""
        half = len(self.n) // 2
        for one in (self.n, *self._sums):
            one[:half] = one[: 2 * half : 2] + one[1 : 2 * half : 2]
            one[half:] = 0
        far = self._farthest
        far[:half] = np.maximum(far[: 2 * half : 2], far[1 : 2 * half : 2])
        far[half:] = 0

    def state(self) -> dict[str, Any]:
        """Everything: `json` as JSON carries it, the rest arrays."""
        return {
            "json": {"origin": self._origin},
            "n": self.n.copy(),
            "sums": self._sums.copy(),
            "farthest": self._farthest.copy(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the sums that gave `state` had never stopped. Raises ValueError."""
        if state["n"].shape != self.n.shape:
            raise ValueError(f"{len(state['n'])} groups came; expected {len(self.n)}")
        self._origin = state["json"]["origin"]
        self.n, self._sums = state["n"].astype(np.int64), state["sums"].astype(np.float64)
        self._farthest = state["farthest"].astype(np.float64)
