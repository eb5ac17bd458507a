"""Is it earning its keep? What policies earn against the holdout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bakehouse_learner.insight.sums import Bounded
from bakehouse_learner.statistics.confidence_sequence import Interval, Moments
from bakehouse_learner.statistics.difference import DifferenceSequence
from bakehouse_schemas.ids import MS_PER_HOUR


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
    value is a decision's reward, of episodes a finished episode's return. They are compared within
    the hours of the broker's time in which they were decided: a bad day is everybody's.

    Args:
        alpha: 1 − confidence, of each interval.
    """

    def __init__(self, alpha: float) -> None:
        self.since_ms: int | None = None  # broker time of the first decision of a policy
        self._alpha = alpha
        self._difference = DifferenceSequence(alpha)
        self._groups = (Moments(), Moments())
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
            subject: see `bakehouse_learner.replay.origin.subject_hash`, uint64 `[n]`
        """
        if self.since_ms is None:
            return
        holdout = holdout & (received_at_ms >= self.since_ms)
        self._difference.update(
            value[policy],
            value[holdout],
            first_subject=subject[policy],
            second_subject=subject[holdout],
            first_stratum=received_at_ms[policy] // MS_PER_HOUR,
            second_stratum=received_at_ms[holdout] // MS_PER_HOUR,
        )
        for moments, mine in zip(self._groups, (policy, holdout), strict=True):
            moments.update(value[mine])
        self._all.update(value[policy | holdout])

    def figures(self) -> dict[str, Any]:
        """As JSON carries it: None where nothing can be said yet."""
        found = self._difference
        interval, told = found.interval(), found.has_bounds
        sides = zip(self._groups, found.subjects_at_least, strict=True)
        policy, holdout = (_described(*side) for side in sides)
        return {
            "policy": policy,
            "holdout": holdout,
            "difference": _bounds(interval) if told else None,
            "relative": self._relative() if told else None,
            "design_effect": found.design_effect if told else None,
            "burn_in": found.burn_in,  # values, and subjects, that each side needs
            "confidence": 1.0 - self._alpha,
            "scale": self._all.std,
        }

    def _relative(self) -> dict[str, Any] | None:
        found = self._difference
        ratio = relative(*found.means, found.squared_errors, found.width)
        return None if ratio.mean is None else ratio._asdict()

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        return {
            "since_ms": self.since_ms,
            "difference": self._difference.state(),
            "groups": [moments.state() for moments in self._groups],
            "all": self._all.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the lift that gave `state` had never stopped. Raises ValueError."""
        if not state["difference"].keys() & {"strata", "subjects"}:
            raise ValueError("of an earlier release, which did not keep whose decisions they were")
        self.since_ms = state["since_ms"]
        self._difference.restore(state["difference"] | {"alpha": self._alpha})
        for moments, saved in zip(self._groups, state["groups"], strict=True):
            moments.restore(saved)
        self._all.restore(state["all"])


def _described(moments: Moments, subjects: int) -> dict[str, Any]:
    return {
        "n": moments.n,
        "subjects_at_least": subjects,
        "mean": moments.mean if moments.n else None,
        "std": moments.std,
    }


def _bounds(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "lower": interval.lower, "upper": interval.upper}
