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
    ROUNDING,
    TAIL_COPIES,
    TIGHTEST_AT,
    Interval,
    boundary,
    refuse_non_finite,
)
from bakehouse_learner.statistics.design_effect import NOBODY, SubjectSums


class DifferenceSequence:
    """Bounds on the difference of two groups' means, at every size of the groups.

    With subjects assigned by chance this is the effect of the assignment (Waudby-Smith et al.
    2024, section 3, with no covariates): both means' squared errors added up, n the values of both
    over the design effect (Kish 1965), as many as would tell as much were each of a subject of its
    own. Values of the first group may carry importance weights of mean 1 (self-normalised). Where
    values of both groups are all the same there are no bounds.

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
        self._groups = (WeightedMoments(), WeightedMoments())
        self._subjects = (SubjectSums(), SubjectSums())

    def update(
        self,
        first: np.ndarray,
        second: np.ndarray,
        first_weight: np.ndarray | None = None,
        *,
        first_subject: np.ndarray | None = None,
        second_subject: np.ndarray | None = None,
    ) -> None:
        """Take finished values of both groups, float `[B₁]` and `[B₂]`; weights float `[B₁]`.

        Args:
            first_subject, second_subject: whose they are, uint64 `[B₁]` and `[B₂]`; see
                `bakehouse_learner.replay.origin.subject_hash`. None: of nobody who was seen before.

        Raises:
            ValueError: a value or weight is not finite, or a weight is negative; nothing changes.
        """
        first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
        weights = np.ones(len(first)) if first_weight is None else np.asarray(first_weight)
        for what, values in (("values", first), ("values", second), ("weights", weights)):
            refuse_non_finite(what, np.asarray(values, dtype=np.float64))
        if np.any(weights < 0):
            raise ValueError(f"weights include {weights.min()}: expected none below 0")
        for moments, subjects, values, each, whose in zip(
            self._groups,
            self._subjects,
            (first, second),
            (weights, np.ones(len(second))),
            (first_subject, second_subject),
            strict=True,
        ):
            moments.update(values, each)
            whose = np.full(len(values), NOBODY, np.uint64) if whose is None else whose
            subjects.add(whose, values, each)

    @property
    def n(self) -> int:
        return sum(group.n for group in self._groups)

    @property
    def sizes(self) -> tuple[int, int]:
        """Values of positive weight in each group."""
        return self._groups[0].n, self._groups[1].n

    @property
    def subjects_at_least(self) -> tuple[int, int]:
        """Subjects of each group; see `SubjectSums.at_least`."""
        return self._subjects[0].at_least, self._subjects[1].at_least

    @property
    def means(self) -> tuple[float, float]:
        """Of each group; 0 where it has no value."""
        return self._groups[0].mean, self._groups[1].mean

    @property
    def is_burnt_in(self) -> bool:
        """Whether there are values and subjects enough for bounds."""
        return min(*self.sizes, *self.subjects_at_least) >= max(self.burn_in, 2)

    @property
    def has_bounds(self) -> bool:
        """Whether they are enough, and differ by more than rounding in one group at least."""
        if not self.is_burnt_in:
            return False
        size = max(group.farthest for group in self._groups)
        spread = sum(error * n for error, n in zip(self.squared_errors, self.sizes, strict=True))
        return spread > (ROUNDING * size) ** 2

    @property
    def squared_errors(self) -> tuple[float, float]:
        """Of both means, subjects being as alike as they are.

        Each group's spread is shrunk towards the wider one's by `burn_in` subjects' worth: where
        one of a hundred players spends, a small group may have seen none, and looks far too sure.
        """
        spreads = [
            max(group.squared_error, subjects.squared_error) * group.n
            for group, subjects in zip(self._groups, self._subjects, strict=True)
        ]
        widest, prior = max(spreads), self.burn_in
        first, second = (
            (subjects.at_least * spread + prior * widest) / (subjects.at_least + prior) / group.n
            for group, subjects, spread in zip(self._groups, self._subjects, spreads, strict=True)
        )
        return first, second

    @property
    def design_effect(self) -> float:
        """How many times larger the squared error is than were each value of its own subject."""
        alone = sum(group.squared_error for group in self._groups)
        return sum(self.squared_errors) / alone if alone else 1.0

    @property
    def width(self) -> float:
        """Half width of the bounds, in standard errors of the difference."""
        n = max(1, round(self.n / self.design_effect))
        return boundary(n, self.alpha, self.tightest_at)

    def interval(self) -> Interval:
        """Difference (first − second) and bounds; infinite where there are none."""
        mean = self.means[0] - self.means[1]
        if not self.has_bounds:
            return Interval(mean, -math.inf, math.inf, self.n)
        half = self.width * math.sqrt(sum(self.squared_errors))
        return Interval(mean, mean - half, mean + half, self.n)

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        return {
            "alpha": self.alpha,
            "groups": [group.state() for group in self._groups],
            "subjects": [subjects.state() for subjects in self._subjects],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the sequence that gave `state` had never stopped; start over where an
        earlier release did not keep whose its values were."""
        self.alpha = float(state["alpha"])
        if "subjects" not in state:
            return
        for group, saved in zip(self._groups, state["groups"], strict=True):
            group.restore(saved)
        for subjects, saved in zip(self._subjects, state["subjects"], strict=True):
            subjects.restore(saved)


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
