"""Confidence sequences: intervals that hold at every look, so a gate may look at every training.

The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas,
"Time-uniform central limit theory and asymptotic confidence sequences" (Annals of Statistics
2024), Gaussian mixture. Pure: no clock, no randomness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

BURN_IN = 100  # no interval before this many values: the sequence is asymptotic
TIGHTEST_AT = 1_000  # values at which the interval is narrowest for its α
# The largest deviation seen counts this many times more in the variance: of a heavy tail,
# a young sample has seen too little.
TAIL_COPIES = 2.0


class Interval(NamedTuple):
    """What a sequence says now; infinite before the burn-in is over."""

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
        return self.sum_squares / (self.n - 1) if self.n > 1 else 0.0

    @property
    def std(self) -> float:
        return math.sqrt(self.variance)

    def state(self) -> dict[str, Any]:
        return {"n": self.n, "mean": self.mean, "sum_squares": self.sum_squares}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.n = int(state["n"])
        self.mean = float(state["mean"])
        self.sum_squares = float(state["sum_squares"])


class ConfidenceSequence:
    """Bounds on the running mean of conditional means, at every n from the burn-in on.

    The means may change over time (candidates do): what is bounded is their average so far, and
    the empirical variance, which counts their changes as noise, errs on the safe side.

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

    @property
    def n(self) -> int:
        return self._moments.n

    @property
    def mean(self) -> float:
        return self._moments.mean

    @property
    def std(self) -> float:
        """Standard deviation that the bounds use: never below what is seen or expected."""
        if self.n == 0:
            return 0.0
        seen = self._moments.sum_squares + TAIL_COPIES * (self._farthest + abs(self.mean)) ** 2
        return math.sqrt(max(seen, self._expected_squares) / self.n)

    def update(self, values: np.ndarray, expected_variance: np.ndarray | None = None) -> None:
        """Take the next values in order.

        Args:
            values: float `[B]`
            expected_variance: float `[B]`, variance of each value as far as it can be known
                without the value. A floor: rare large values are expected before they are seen.

        Raises:
            ValueError: a value is not finite; the sequence is unchanged.
        """
        values = np.asarray(values, dtype=np.float64)
        _refuse_non_finite("values", values)
        if expected_variance is not None:
            _refuse_non_finite("expected variances", expected_variance)
            self._expected_squares += float(np.sum(expected_variance))
        if len(values):
            self._farthest = max(self._farthest, float(np.max(np.abs(values))))
        self._moments.update(values)

    def interval(self) -> Interval:
        """Mean and bounds."""
        return Interval(self.mean, *self.bounds(), self.n)

    def bounds(self) -> tuple[float, float]:
        """(lower, upper); infinite during the burn-in."""
        if self.n < max(self.burn_in, 2):
            return -math.inf, math.inf
        half = self.std / math.sqrt(self.n) * boundary(self.n, self.alpha, self.tightest_at)
        return self.mean - half, self.mean + half

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        return {
            "alpha": self.alpha,
            "moments": self._moments.state(),
            "expected_squares": self._expected_squares,
            "farthest": self._farthest,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the sequence that gave `state` had never stopped."""
        self.alpha = float(state["alpha"])
        self._moments.restore(state["moments"])
        self._expected_squares = float(state["expected_squares"])
        self._farthest = float(state["farthest"])


class DifferenceSequence:
    """Bounds on the difference of two groups' means, at every size of the groups.

    With subjects assigned by chance this is the effect of the assignment (Waudby-Smith et al.
    2024, section 3, with no covariates): variance `σ₁²/n₁ + σ₂²/n₂`, n the number of both.
    Values of the first group may carry importance weights of mean 1 (self-normalised).

    Args:
        alpha: probability that the bounds ever exclude the difference.
        burn_in: values of positive weight that each group needs before the first interval.
        tightest_at: values of both groups at which the interval is tuned to be narrowest.
    """

    def __init__(self, alpha: float, *, burn_in: int = 30, tightest_at: int = TIGHTEST_AT) -> None:
        self.alpha = alpha
        self.burn_in = burn_in
        self.tightest_at = tightest_at
        self._groups = (WeightedMoments(), WeightedMoments())

    def update(
        self, first: np.ndarray, second: np.ndarray, first_weight: np.ndarray | None = None
    ) -> None:
        """Take finished values of both groups, float `[B₁]` and `[B₂]`; weights float `[B₁]`.

        Raises:
            ValueError: a value or weight is not finite, or a weight is negative; nothing changes.
        """
        weights = np.ones(len(first)) if first_weight is None else np.asarray(first_weight)
        for what, values in (("values", first), ("values", second), ("weights", weights)):
            _refuse_non_finite(what, np.asarray(values, dtype=np.float64))
        if np.any(weights < 0):
            raise ValueError(f"weights include {weights.min()}: expected none below 0")
        self._groups[0].update(np.asarray(first, dtype=np.float64), weights)
        self._groups[1].update(np.asarray(second, dtype=np.float64), np.ones(len(second)))

    @property
    def n(self) -> int:
        return sum(group.n for group in self._groups)

    @property
    def groups(self) -> tuple[WeightedMoments, WeightedMoments]:
        """Both groups by themselves."""
        return self._groups

    @property
    def sizes(self) -> tuple[int, int]:
        """Values of positive weight in each group."""
        return self._groups[0].n, self._groups[1].n

    def interval(self) -> Interval:
        """Difference (first − second) and bounds; infinite until both groups have burnt in."""
        first, second = self._groups
        mean = first.mean - second.mean
        if min(self.sizes) < max(self.burn_in, 2):
            return Interval(mean, -math.inf, math.inf, self.n)
        error = math.sqrt(first.squared_error + second.squared_error)
        half = error * boundary(self.n, self.alpha, self.tightest_at)
        return Interval(mean, mean - half, mean + half, self.n)

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        return {"alpha": self.alpha, "groups": [group.state() for group in self._groups]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the sequence that gave `state` had never stopped."""
        self.alpha = float(state["alpha"])
        for group, saved in zip(self._groups, state["groups"], strict=True):
            group.restore(saved)


def squared_error(sums: Sequence[Any] | np.ndarray, farthest: Any) -> Any:
    """Of a self-normalised mean, `Σw²(x − mean)² / (Σw)²`, from sums about any origin.

    Floats, or float64 `[K]` of K means.

    Args:
        sums: Σw, Σwx, Σw², Σw²x and Σw²x², `[5]` or `[5, K]`
        farthest: largest w·|x|.
    """
    w, wx, ww, wwx, wwxx = sums
    apart = wx / w
    seen = np.maximum(wwxx - 2 * apart * wwx + apart**2 * ww, 0.0)
    return (seen + TAIL_COPIES * farthest**2) / w**2


class WeightedMoments:
    """Self-normalised mean `Σwx/Σw` and its squared error `Σw²(x − mean)² / (Σw)²`."""

    _SUMS = ("w", "wx", "ww", "wwx", "wwxx")

    def __init__(self) -> None:
        self.n = 0
        self._sums = dict.fromkeys(self._SUMS, 0.0)
        self._origin = 0.0  # sums are about the first value, against cancellation
        self._farthest = 0.0  # largest w·|x − origin|

    def update(self, values: np.ndarray, weights: np.ndarray) -> None:
        """Take finite values and weights, float64 `[B]` each; a weight of 0 changes nothing."""
        kept = weights > 0
        values, weights = values[kept], weights[kept]
        if len(values) == 0:
            return
        if self.n == 0:
            self._origin = float(values[0])
        x = values - self._origin
        for name, terms in (
            ("w", weights),
            ("wx", weights * x),
            ("ww", weights**2),
            ("wwx", weights**2 * x),
            ("wwxx", weights**2 * x**2),
        ):
            self._sums[name] += float(np.sum(terms))
        self._farthest = max(self._farthest, float(np.max(weights * np.abs(x))))
        self.n += len(values)

    @property
    def mean(self) -> float:
        return self._origin + self._sums["wx"] / self._sums["w"] if self.n else 0.0

    @property
    def squared_error(self) -> float:
        return float(squared_error([self._sums[name] for name in self._SUMS], self._farthest))

    def state(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "sums": dict(self._sums),
            "origin": self._origin,
            "farthest": self._farthest,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.n = int(state["n"])
        self._sums = {name: float(state["sums"][name]) for name in self._SUMS}
        self._origin = float(state["origin"])
        self._farthest = float(state["farthest"])


def _refuse_non_finite(what: str, values: np.ndarray) -> None:
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise ValueError(f"{bad} of {len(values)} {what} are not finite; none was taken")
