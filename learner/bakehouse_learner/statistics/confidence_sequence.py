"""Confidence sequences: intervals that hold at every look, so a gate may look at every training.

The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas,
"Time-uniform central limit theory and asymptotic confidence sequences" (Annals of Statistics
2024), Gaussian mixture. Pure: no clock, no randomness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

BURN_IN = 100  # no interval before this many values: the sequence is asymptotic
TIGHTEST_AT = 1_000  # values at which the interval is narrowest for its α
# The largest deviation seen counts this many times more in the variance: of a heavy tail,
# a young sample has seen too little.
TAIL_COPIES = 2.0
# Standard deviation, as a share of the numbers that values were computed from, up to which they
# are all the same and apart by rounding alone: 0.1 + 0.2 is not 0.3.
ROUNDING = 1e-9


class Interval(NamedTuple):
    """What a sequence says now; infinite where there are no bounds."""

    mean: float
    lower: float
    upper: float
    n: int


def boundary(n: int, alpha: float, tightest_at: int = TIGHTEST_AT) -> float:
    """Half width in standard errors, valid at all n at once.

    `√(2 (1 + 1/nρ²) log(√(nρ² + 1) / α))` with `ρ² = (−2 log α + log(1 − 2 log α)) / n*`
    (Waudby-Smith et al. 2024, theorem 2.2 and equation 27).
    """
    spent = -2.0 * math.log(alpha)
    intrinsic = n * (spent + math.log1p(spent)) / tightest_at
    return math.sqrt(
        2.0 * (1.0 + 1.0 / intrinsic) * (0.5 * math.log1p(intrinsic) - math.log(alpha))
    )


class Moments:
    """Count, mean and variance, one batch at a time (Chan, Golub & LeVeque 1979)."""

    def __init__(self) -> None:
        self.n = 0
        self.mean = 0.0
        self.sum_squares = 0.0  # of deviations from the mean

    def update(self, values: np.ndarray) -> None:
        """Take finite values, float `[B]`."""
        n = len(values)
        if n == 0:
            return
        mean = float(np.mean(values))
        total = self.n + n
        apart = mean - self.mean
        self.sum_squares += float(np.sum((values - mean) ** 2)) + apart**2 * self.n * n / total
        self.mean += apart * n / total
        self.n = total

    @property
    def variance(self) -> float:
        """Unbiased; 0 of fewer than two values."""
        return self.sum_squares / (self.n - 1) if self.n > 1 else 0.0

    @property
    def std(self) -> float:
        """Square root of the variance."""
        return math.sqrt(self.variance)

    @property
    def varies(self) -> bool:
        """Whether values differ by more than rounding."""
        return self.sum_squares > self.n * (ROUNDING * self.mean) ** 2

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        return {"n": self.n, "mean": self.mean, "sum_squares": self.sum_squares}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self.n = int(state["n"])
        self.mean = float(state["mean"])
        self.sum_squares = float(state["sum_squares"])


class ConfidenceSequence:
    """Bounds on the running mean of conditional means, at every n from the burn-in on.

    The means may change over time (candidates do): what is bounded is their average so far, and
    the empirical variance, which counts their changes as noise, errs on the safe side. Values that
    are all the same have no bounds, however many they are: what varies has not been seen yet.

    Args:
        alpha: probability that the bounds ever exclude it (both sides together).
        burn_in: values before the first finite interval.
        tightest_at: n at which the interval is tuned to be narrowest.
    """

    def __init__(
        self, alpha: float, *, burn_in: int = BURN_IN, tightest_at: int = TIGHTEST_AT
    ) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha}: expected a probability in (0, 1)")
        self.alpha = alpha
        self.burn_in = burn_in
        self.tightest_at = tightest_at
        self._moments = Moments()
        self._expected_squares = 0.0  # sum of the variances that the caller expects
        self._farthest = 0.0  # largest |value|
        self._size = 0.0  # of what values were computed from; see ROUNDING

    @property
    def n(self) -> int:
        """Values taken."""
        return self._moments.n

    @property
    def mean(self) -> float:
        """Of the values taken."""
        return self._moments.mean

    @property
    def std(self) -> float:
        """Standard deviation that the bounds use: never below what is seen or expected."""
        if self.n == 0:
            return 0.0
        seen = self._moments.sum_squares + TAIL_COPIES * (self._farthest + abs(self.mean)) ** 2
        return math.sqrt(max(seen, self._expected_squares) / self.n)

    @property
    def varies(self) -> bool:
        """Whether values differ by more than rounding, or are expected to."""
        spread = max(self._moments.sum_squares, self._expected_squares)
        return spread > self.n * (ROUNDING * max(self._size, self._farthest)) ** 2

    def update(
        self,
        values: np.ndarray,
        expected_variance: np.ndarray | None = None,
        *,
        size: float = 0.0,
    ) -> None:
        """Take the next values in order.

        Args:
            values: float `[B]`
            expected_variance: float `[B]`, variance of each value as far as it can be known
                without the value. A floor: rare large values are expected before they are seen.
            size: largest magnitude of what values were computed from, where that is larger than
                they are.

        Raises:
            ValueError: a value is not finite; the sequence is unchanged.
        """
        values = np.asarray(values, dtype=np.float64)
        refuse_non_finite("values", values)
        if expected_variance is not None:
            refuse_non_finite("expected variances", expected_variance)
            self._expected_squares += float(np.sum(expected_variance))
        if len(values):
            self._farthest = max(self._farthest, float(np.max(np.abs(values))))
        self._size = max(self._size, size)
        self._moments.update(values)

    def interval(self, *, known_std: float = 0.0) -> Interval:
        """Mean and bounds; see `bounds`."""
        return Interval(self.mean, *self.bounds(known_std=known_std), self.n)

    def bounds(self, *, known_std: float = 0.0) -> tuple[float, float]:
        """(lower, upper); infinite during the burn-in, and where nothing varies.

        Args:
            known_std: standard deviation of such values as seen elsewhere, for while these have
                none. 0: not known.
        """
        std = self.std if self.varies else known_std
        if self.n < max(self.burn_in, 2) or std == 0.0:
            return -math.inf, math.inf
        half = std / math.sqrt(self.n) * boundary(self.n, self.alpha, self.tightest_at)
        return self.mean - half, self.mean + half

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        return {
            "alpha": self.alpha,
            "moments": self._moments.state(),
            "expected_squares": self._expected_squares,
            "farthest": self._farthest,
            "size": self._size,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the sequence that gave `state` had never stopped."""
        self.alpha = float(state["alpha"])
        self._moments.restore(state["moments"])
        self._expected_squares = float(state["expected_squares"])
        self._farthest = float(state["farthest"])
        self._size = float(state.get("size", 0.0))  # not kept by earlier releases


def are_alike(values: np.ndarray, size: float = 0.0) -> bool:
    """Whether finite values, float `[n]`, are all the same but for rounding.

    Args:
        size: largest magnitude of what they were computed from, where that is larger.
    """
    size = max(size, float(np.max(np.abs(values), initial=0.0)))
    return float(np.std(values)) <= ROUNDING * size if len(values) else True


def refuse_non_finite(what: str, values: np.ndarray) -> None:
    """Raises ValueError, saying how many they are."""
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise ValueError(f"{bad} of {len(values)} {what} are not finite; none was taken")
