"""Guardrails: outcomes that may not get too frequent, or too rare, while a policy answers. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bakehouse_learner.statistics.confidence_sequence import ConfidenceSequence, Interval, Moments
from bakehouse_schemas.application.rollout import Guardrail


class Guards:
    """Always-valid bounds on each guardrail's mean over decisions of policies.

    While all decisions of policies are alike (none was won, all were quit), their spread is taken
    from everybody's, the rules' included: a policy under which an outcome never comes is stopped by
    `least` where the outcome comes to others. What has been the same for everybody, policies and
    rules, has no bounds, and going back to the rules would not change it.

    Args:
        alpha: probability that any of the bounds ever excludes its mean; shared out equally.
    """

    def __init__(self, guardrails: Sequence[Guardrail], *, alpha: float) -> None:
        self.guardrails = tuple(guardrails)
        self._share = alpha / max(len(self.guardrails), 1)
        self._everybody = [Moments() for _ in self.guardrails]
        self.begin()

    def begin(self) -> None:
        """Forget what was seen: someone has looked, or another policy begins."""
        self._means = [ConfidenceSequence(self._share) for _ in self.guardrails]

    def update(self, values: np.ndarray, everybody: np.ndarray | None = None) -> None:
        """Take matured decisions, in order; what is not finite is left out.

        Args:
            values: of policies, float `[n, G]`
            everybody: of policies and rules, float `[m, G]`; None: `values` alone.
        """
        everybody = values if everybody is None else everybody
        for at, (mean, moments) in enumerate(zip(self._means, self._everybody, strict=True)):
            mean.update(values[np.isfinite(values[:, at]), at])
            moments.update(everybody[np.isfinite(everybody[:, at]), at])

    def intervals(self) -> list[tuple[Guardrail, Interval]]:
        """Each guardrail with the bounds on its mean."""
        return [
            (guardrail, mean.interval(known_std=moments.std if moments.varies else 0.0))
            for guardrail, mean, moments in self._each()
        ]

    def _each(self) -> Iterable[tuple[Guardrail, ConfidenceSequence, Moments]]:
        return zip(self.guardrails, self._means, self._everybody, strict=True)

    def state(self) -> list[dict[str, Any]]:
        """Everything, as JSON carries it."""
        return [
            {"outcome": guardrail.outcome, "mean": mean.state(), "everybody": moments.state()}
            for guardrail, mean, moments in self._each()
        ]

    def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Continue; a guardrail that is new in the application begins with nothing seen."""
        known = {saved["outcome"]: saved for saved in state}
        for guardrail, mean, moments in self._each():
            if saved := known.get(guardrail.outcome):
                mean.restore(saved["mean"])
                mean.alpha = self._share  # as many share it as there are now
                if "everybody" in saved:  # not kept by earlier releases
                    moments.restore(saved["everybody"])


def is_violated(guardrail: Guardrail, interval: Interval) -> bool:
    """Whether the mean is surely beyond a bound."""
    above = guardrail.most is not None and interval.lower > guardrail.most
    below = guardrail.least is not None and interval.upper < guardrail.least
    return (above or below) and math.isfinite(interval.mean)
