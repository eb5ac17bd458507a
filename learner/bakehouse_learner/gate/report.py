"""What the gate is given, and what it and the review of a candidate answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from bakehouse_learner.gate.policy_version import CarriedOver
from bakehouse_learner.gate.rollout import RolloutSteps
from bakehouse_learner.statistics.confidence_sequence import Interval
from bakehouse_learner.statistics.recent_mean import RecentMean
from bakehouse_schemas.application.rollout import Guardrail


@dataclass(frozen=True)
class Rule:
    """One rule, what it measured, and what that was held against."""

    name: str
    number: float | None  # None: not measurable yet
    threshold: float
    passed: bool


@dataclass(frozen=True)
class GateReport:
    """What was decided about one candidate, and why. Goes into its manifest and MLflow."""

    candidate: int
    current: int  # the version that answers now
    anchor: int
    publish: bool
    leaves_version_0: bool
    new_anchor: bool  # the candidate becomes the anchor once it is published
    rollback_to: int | None
    freeze: bool  # until someone looks
    reason: str
    rules: tuple[Rule, ...]
    evidence: Mapping[str, Any] = field(default_factory=dict)
    canary: float = 1.0  # share of subjects that it answers
    carried: CarriedOver | None = None  # what answers now is of another contract

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it: no infinities, no NaN."""
        described = asdict(self)
        del described["carried"]
        if self.carried is not None:
            described["carried"] = self.carried.as_dict()
        described["rules"] = [asdict(rule) for rule in self.rules]
        described["evidence"] = {name: number(value) for name, value in self.evidence.items()}
        return described


@dataclass(frozen=True)
class Evidence:
    """What evaluation says when the gate is asked.

    Args:
        running: candidate − anchor a decision (bandit), or policy − holdout an episode
            (episodic): rules 3 and 4, and rule 2 of a bandit.
        leaving: what rule 2 looks at where that is something else (episodic: the fitted-Q
            difference); None: `running`.
        scale: standard deviation of a reward (bandit) or of a return (episodic).
        effective_sample: decisions' worth of evidence, reported beside the bounds.
        label: what `leaving` or `running` is, such as "paired difference".
        guardrails: with the bounds on their means over decisions of policies.
        match: of an apprentice, the rate at which it agrees with the baseline and the rate that
            it must reach; rule 2 is then about this alone.
    """

    running: Interval
    scale: float
    effective_sample: float
    leaving: Interval | None = None
    label: str = "paired difference"
    guardrails: tuple[tuple[Guardrail, Interval], ...] = ()
    match: tuple[float, float] | None = None  # of an apprentice: its rate, and the one wanted

    @property
    def on_leaving(self) -> Interval:
        """What rule 2 looks at."""
        return self.running if self.leaving is None else self.leaving


class Review(NamedTuple):
    """What becomes of a candidate, and how everything that changes with it stands afterwards."""

    report: GateReport
    steps: RolloutSteps
    match: RecentMean  # of an apprentice with the rules
    proving: bool  # a candidate has still to prove itself


def number(value: Any) -> Any:
    """The value, None for a float that JSON cannot carry."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
