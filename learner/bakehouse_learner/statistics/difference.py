"""Which of two groups earns more? Bounds on the difference of their means, at every look.

Subjects were assigned to the groups by chance, not their decisions, so subjects are compared; see
`bakehouse_learner.statistics.design_effect`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bakehouse_learner.statistics.confidence_sequence import (
    TAIL_COPIES,
    TIGHTEST_AT,
    Interval,
    boundary,
    refuse_non_finite,
)
from bakehouse_learner.statistics.design_effect import NOBODY
from bakehouse_learner.statistics.stratified import StratifiedMeans


class DifferenceSequence:
    """Bounds on the difference of two groups' means, at every size of the groups.

    With subjects assigned by chance this is the effect of the assignment (Waudby-Smith et al.
    2024, section 3, with no covariates), within strata: see `StratifiedMeans`. Both means' squared
    errors are added up, and n is the groups' effective sizes over the design effect (Kish 1965), as
    many values as would tell as much were each of a subject of its own. Values of the first group
    may carry importance weights of mean 1 (self-normalised). Where values of both groups are all
    the same there are no bounds.

    Args:
        alpha: probability that the bounds ever exclude the difference.
        burn_in: values of positive weight, and subjects, that each group needs before the first
            interval.
        tightest_at: values of both groups at which the interval is tuned to be narrowest.
    """

    def __init__(self, alpha: float, *, burn_in: int = 30, tightest_at: int = TIGHTEST_AT) -> None:
        self.alpha = alpha
        self.burn_in = burn_in
        self.tightest_at = tightest_at
        self._strata = StratifiedMeans()

    def update(
        self,
        first: np.ndarray,
        second: np.ndarray,
        first_weight: np.ndarray | None = None,
        *,
        first_subject: np.ndarray | None = None,
        second_subject: np.ndarray | None = None,
        first_stratum: np.ndarray | None = None,
        second_stratum: np.ndarray | None = None,
    ) -> None:
        """Take finished values of both groups, float `[B₁]` and `[B₂]`; weights float `[B₁]`.

        Args:
            first_subject, second_subject: whose they are, uint64 `[B₁]` and `[B₂]`; see
                `bakehouse_learner.replay.origin.subject_hash`. None: of nobody who was seen before.
            first_stratum, second_stratum: int `[B₁]` and `[B₂]`, growing with time; what comes
                after its stratum has ended counts in the one that goes on. None: all in one.

        Raises:
            ValueError: a value or weight is not finite, or a weight is negative; nothing changes.
        """
        first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
        weights = np.ones(len(first)) if first_weight is None else np.asarray(first_weight)
        for what, values in (("values", first), ("values", second), ("weights", weights)):
            refuse_non_finite(what, np.asarray(values, dtype=np.float64))
        if np.any(weights < 0):
            raise ValueError(f"weights include {weights.min()}: expected none below 0")
        sides = [
            (
                values,
                each,
                np.full(len(values), NOBODY, np.uint64) if subject is None else subject,
                np.zeros(len(values), np.int64) if stratum is None else np.asarray(stratum),
            )
            for values, each, subject, stratum in (
                (first, weights, first_subject, first_stratum),
                (second, np.ones(len(second)), second_subject, second_stratum),
            )
        ]
        for stratum in np.unique(np.concatenate([side[3] for side in sides])).tolist():
            self._strata.reach(stratum)
            for group, (values, each, subject, of) in enumerate(sides):
                here = of == stratum
                self._strata.add(group, values[here], each[here], subject[here])

    @property
    def n(self) -> int:
        return sum(self._strata.n)

    @property
    def sizes(self) -> tuple[int, int]:
        """Values of positive weight in each group."""
        return self._strata.n

    @property
    def subjects_at_least(self) -> tuple[int, int]:
        """Subjects of each group; see `SubjectSums.at_least`."""
        return self._strata.subjects_at_least

    @property
    def means(self) -> tuple[float, float]:
        """Of each group, within strata; 0 where it has no value."""
        first, second = self._strata.groups()
        return first.mean, second.mean

    @property
    def is_burnt_in(self) -> bool:
        """Whether there are values and subjects enough for bounds."""
        return min(*self.sizes, *self.subjects_at_least) >= max(self.burn_in, 2)

    @property
    def has_bounds(self) -> bool:
        """Whether they are enough, and differ by more than rounding in one group at least."""
        return self.is_burnt_in and self._strata.varies

    @property
    def squared_errors(self) -> tuple[float, float]:
        """Of both means, subjects being as alike as they are.

        Each group's spread is shrunk towards the wider one's by `burn_in` subjects' worth: where
        one of a hundred players spends, a small group may have seen none, and looks far too sure.
        """
        groups = self._strata.groups()
        spreads = [group.squared_error * group.effective for group in groups]
        widest, prior = max(spreads), self.burn_in
        first, second = (
            (group.subjects_at_least * spread + prior * widest)
            / (group.subjects_at_least + prior)
            / group.effective
            for group, spread in zip(groups, spreads, strict=True)
        )
        return first, second

    @property
    def design_effect(self) -> float:
        """How many times larger the squared error is than were each value of its own subject."""
        alone = sum(group.squared_error_alone for group in self._strata.groups())
        return sum(self.squared_errors) / alone if alone else 1.0

    @property
    def width(self) -> float:
        """Half width of the bounds, in standard errors of the difference."""
        effective = sum(group.effective for group in self._strata.groups())
        n = max(1, round(effective / self.design_effect))
        return boundary(n, self.alpha, self.tightest_at)

    def interval(self) -> Interval:
        """Difference (first − second) and bounds; infinite where there are none."""
        first, second = self.means
        mean = first - second
        if not self.has_bounds:
            return Interval(mean, -math.inf, math.inf, self.n)
        half = self.width * math.sqrt(sum(self.squared_errors))
        return Interval(mean, mean - half, mean + half, self.n)

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        return {"alpha": self.alpha, "strata": self._strata.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the sequence that gave `state` had never stopped.

        What an earlier release saw is one stratum that goes on; where it did not keep whose its
        values were, the sequence starts over.

        Raises:
            ValueError: it is of another number of shares.
        """
        self.alpha = float(state["alpha"])
        if "strata" in state:
            self._strata.restore(state["strata"])
        elif "subjects" in state:
            for group, (sums, subjects) in enumerate(
                zip(state["groups"], state["subjects"], strict=True)
            ):
                self._strata.take_over(group, sums, subjects)


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
    def farthest(self) -> float:
        """From 0 that any value may lie, weights included."""
        return abs(self._origin) + self._farthest

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
