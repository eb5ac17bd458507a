"""Is it earning its keep? What policies earn against the holdout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from learner.confidence import DifferenceSequence, Moments, boundary
from learner.insight.alike import SubjectSums
from learner.insight.sums import Bounded


def relative(first: float, second: float, errors: tuple[float, float], width: float) -> Bounded:
    """`(first − second) / |second|` of two independent means, bounded by Fieller's theorem.

    Bounds are where `(first − ρ·second)² = width²·(e₁² + ρ²·e₂²)` (Fieller 1954, "Some problems in
    interval estimation"). With the width of an always-valid boundary they hold at every look, for
    at each ρ the difference `first − ρ·second` is bounded so. There are none, and no mean worth
    telling, where `second` itself cannot be told from 0.

    Args:
        first, second: the means.
        errors: their squared standard errors.
        width: half width in standard errors.
    """
    own, spread = width**2 * errors[0], width**2 * errors[1]
    if not second**2 > spread:
        return Bounded(None, None, None)
    product, divisor = first * second, second**2 - spread
    # The discriminant as a sum of what is never negative, and the end near 0 as the constant over
    # the other end: no difference of nearly equal numbers, however near 0 the divisor comes.
    half = math.sqrt(own * divisor + spread * first**2)
    farther = product + math.copysign(half, product)
    nearer = (first**2 - own) / farther if farther else 0.0
    sign = math.copysign(1.0, second)
    mean = sign * (first / second - 1.0)
    ends = [sign * (ratio - 1.0) for ratio in (farther / divisor, nearer)]
    # between the ends in truth, and so after rounding
    return Bounded(mean, min(mean, *ends), max(mean, *ends))


class Lift:
    """Policies above version 0 against the holdout, since version 0 was first left.

    Whoever a policy answered counts, exploration included: it is what players got. Of bandits a
    value is a decision's reward, of episodes a finished episode's return. Values of one subject
    may be alike, and intervals are as wide as that makes them; see `learner.insight.alike`.

    Args:
        alpha: 1 − confidence, of each interval.
    """

    def __init__(self, alpha: float) -> None:
        self.since_ms: int | None = None  # broker time of the first decision of a policy
        self._alpha = alpha
        self._difference = DifferenceSequence(alpha)
        self._groups = (Moments(), Moments())
        self._subjects = (SubjectSums(), SubjectSums())
        self._all = Moments()

    def begin(self, received_at_ms: np.ndarray) -> None:
        """A policy above version 0 made these decisions, int64 `[n]`; the first one counts."""
        if self.since_ms is None and len(received_at_ms):
            self.since_ms = int(received_at_ms.min())

    def add(
        self,
        received_at_ms: np.ndarray,
        subject: np.ndarray,
        value: np.ndarray,
        policy: np.ndarray,
        holdout: np.ndarray,
    ) -> None:
        """Take values, float64 `[n]`, and whose they are, bool `[n]`; what is neither's is left.

        Args:
            subject: see `learner.origin.subject_hash`, uint64 `[n]`
        """
        if self.since_ms is None:
            return
        holdout = holdout & (received_at_ms >= self.since_ms)
        self._difference.update(value[policy], value[holdout])
        for moments, subjects, mine in zip(
            self._groups, self._subjects, (policy, holdout), strict=True
        ):
            moments.update(value[mine])
            subjects.add(subject[mine], value[mine])
        self._all.update(value[policy | holdout])

    def figures(self) -> dict[str, Any]:
        """As JSON carries it: None where nothing can be said yet."""
        first, second = self._difference.groups
        found = self._bounds(first.mean - second.mean)
        return {
            "policy": _described(self._groups[0], self._subjects[0]),
            "holdout": _described(self._groups[1], self._subjects[1]),
            "difference": None if found is None else found[0],
            "relative": None if found is None else found[1],
            "design_effect": None if found is None else found[2],
            "burn_in": self._difference.burn_in,  # values, and subjects, that each side needs
            "confidence": 1.0 - self._alpha,
            "scale": self._all.std,
        }

    def _bounds(self, mean: float) -> tuple[dict[str, float], dict[str, Any] | None, float] | None:
        """Of the difference and of the ratio, and the design effect; None where there are none."""
        if not math.isfinite(self._difference.interval().lower):
            return None
        if min(subjects.at_least for subjects in self._subjects) < self._difference.burn_in:
            return None  # how alike a subject's values are cannot be told of so few
        groups = self._difference.groups
        apart = [group.squared_error for group in groups]  # were each value on its own
        errors = self._squared_errors(apart)
        # Kish 1965: as many values on their own would tell as much
        effect = sum(errors) / sum(apart) if sum(apart) else 1.0
        n = max(1, round(self._difference.n / effect))
        width = boundary(n, self._alpha, self._difference.tightest_at)
        half = width * math.sqrt(sum(errors))
        ratio = relative(groups[0].mean, groups[1].mean, (errors[0], errors[1]), width)
        return (
            {"mean": mean, "lower": mean - half, "upper": mean + half},
            None if ratio.mean is None else ratio._asdict(),
            effect,
        )

    def _squared_errors(self, apart: list[float]) -> list[float]:
        """Of both means, subjects being as alike as they are.

        Each side's spread is shrunk towards the wider one's by `burn_in` subjects' worth: where
        one of a hundred players spends, a small side may have seen none, and looks far too sure.

        Args:
            apart: squared errors, were each value on its own.
        """
        sizes = [moments.n for moments in self._groups]
        spreads = [
            max(one, subjects.squared_error) * n
            for one, subjects, n in zip(apart, self._subjects, sizes, strict=True)
        ]
        widest, prior = max(spreads), self._difference.burn_in
        return [
            (subjects.at_least * spread + prior * widest) / (subjects.at_least + prior) / n
            for subjects, spread, n in zip(self._subjects, spreads, sizes, strict=True)
        ]

    def state(self) -> dict[str, Any]:
        """Everything: `json` as JSON carries it, the rest arrays."""
        return {
            "json": {
                "since_ms": self.since_ms,
                "difference": self._difference.state(),
                "groups": [moments.state() for moments in self._groups],
                "all": self._all.state(),
            },
            "policy": self._subjects[0].state(),
            "holdout": self._subjects[1].state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the lift that gave `state` had never stopped. Raises ValueError."""
        saved = state["json"]
        self.since_ms = saved["since_ms"]
        self._difference.restore(saved["difference"] | {"alpha": self._alpha})
        for moments, its in zip(self._groups, saved["groups"], strict=True):
            moments.restore(its)
        for subjects, side in zip(self._subjects, ("policy", "holdout"), strict=True):
            subjects.restore(state[side])
        self._all.restore(saved["all"])


def _described(moments: Moments, subjects: SubjectSums) -> dict[str, Any]:
    return {
        "n": moments.n,
        "subjects_at_least": subjects.at_least,
        "mean": moments.mean if moments.n else None,
        "std": moments.std,
    }
