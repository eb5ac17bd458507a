"""The gate: may this candidate answer players, and is the one that does still good.

Four rules, each reported with its number and threshold. Pure: the caller brings the evidence
and carries out what is decided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from bakehouse_learner.gate.guardrails import broken
from bakehouse_learner.statistics.confidence_sequence import BURN_IN, Interval
from bakehouse_schemas.application.application import Gate
from bakehouse_schemas.application.rollout import Guardrail

SCORE_SLACK = 10.0  # how far beyond the rewards seen a score may lie and still be believed


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

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it: no infinities, no NaN."""
        described = asdict(self)
        described["rules"] = [asdict(rule) for rule in self.rules]
        described["evidence"] = {name: _number(value) for name, value in self.evidence.items()}
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


def score_limit(
    largest_reward: float, *, discount: float = 0.0, horizon: float = 100.0, bonus: float = 0.0
) -> float:
    """Largest |score| to believe: ten times what the rewards seen could add up to.

    Args:
        largest_reward: largest |reward| of matured decisions.
        discount: γ of an episodic problem, 0 for a bandit.
        horizon: steps of an episode that are summed where γ is (almost) 1.
        bonus: largest optimism that the head adds to a reward, such as α√(1 + D) of LinUCB.
    """
    steps = min(1.0 / (1.0 - discount), horizon) if discount < 1 else horizon
    return SCORE_SLACK * (max(largest_reward, 1.0) * steps + bonus)


def action_shift(before: np.ndarray, candidate: np.ndarray) -> float:
    """Share of recent contexts in which the most probable action is another one.

    Args:
        before: probabilities of the published policy (of version 0: of the baseline), `[B, A]`
        candidate: the same contexts, `[B, A]`
    """
    if len(before) == 0:
        return 0.0
    return float(np.mean(np.argmax(before, axis=1) != np.argmax(candidate, axis=1)))


def decide(
    gate: Gate,
    *,
    candidate: int,
    current: int,
    anchor: int,
    losses: Mapping[str, float],
    golden_scores: np.ndarray,
    largest_score: float,
    shift: float,
    evidence: Evidence,
) -> GateReport:
    """Hold one candidate against the four rules of the gate.

    1. Losses and golden scores finite, the scores in range, action shift under its cap; else it
       is refused.
    2. From version 0: lower bound above −margin (in `scale`), and not shown to be worse.
    3. Afterwards candidates pass, unless the upper bound is below 0: back to the anchor, frozen.
    4. A candidate that passes becomes the anchor when the lower bound is above 0.

    A guardrail that is surely broken takes every policy back: to version 0, frozen.

    Args:
        gate: the application's thresholds.
        candidate, current, anchor: version numbers; 0 is the baseline.
        losses: of the training that made it, by name.
        golden_scores: the candidate's, float `[G, A]`
        largest_score: see `score_limit`.
        shift: see `action_shift`.
        evidence: what evaluation says now.
    """
    learned = float(np.mean(np.isfinite(list(losses.values())))) if losses else 1.0
    finite = float(np.mean(np.isfinite(golden_scores))) if golden_scores.size else 0.0
    largest = float(np.max(np.abs(golden_scores))) if finite == 1.0 else math.inf
    sound = (
        Rule("finite share of losses", learned, 1.0, learned == 1.0),
        Rule("finite share of golden scores", finite, 1.0, finite == 1.0),
        Rule("largest golden score", _number(largest), largest_score, largest <= largest_score),
        Rule("action shift", shift, gate.action_shift, shift <= gate.action_shift),
    )
    running = evidence.running
    leaving = evidence.leaving if evidence.leaving is not None else running
    not_worse = Rule("upper bound", _number(running.upper), 0.0, not running.upper < 0)
    better = Rule("lower bound moves the anchor", _number(running.lower), 0.0, running.lower > 0)
    least = -gate.margin * evidence.scale
    enough = Rule(
        f"lower bound to leave version 0 ({evidence.label})",
        _number(leaving.lower),
        least,
        # an interval without width comes of what has not varied: it bounds nothing
        least < leaving.lower < leaving.upper and leaving.upper >= 0,
    )
    if evidence.match is not None:
        rate, wanted = evidence.match
        enough = Rule("match with the baseline", rate, wanted, rate >= wanted)
    guards = tuple(_guard(*one) for one in evidence.guardrails)
    judged = (enough, better) if current == 0 else (not_worse, better, *guards)

    failed = next((rule for rule in sound if not rule.passed), None)
    # The evidence is about what has been answering, so a bad candidate does not excuse it.
    stopped = next((rule for rule in guards if not rule.passed), None) if current > 0 else None
    roll_back = current > 0 and (stopped is not None or not not_worse.passed)
    back_to = anchor if stopped is None else 0
    publish = failed is None and not roll_back and (current > 0 or enough.passed)
    if stopped is not None:
        reason = (
            f"{stopped.name} is {_shown(stopped.number)}, expected {_bound_words(stopped)}: the "
            "baseline (version 0) answers again; frozen until someone looks"
        )
    elif roll_back and current == anchor:
        reason = (
            f"the upper bound of {_of(running)} fell below 0: candidates are worse than "
            f"{_named(anchor)}, which goes on answering; frozen until someone looks"
        )
    elif roll_back:
        reason = (
            f"the upper bound of {_of(running)} fell below 0: version {current} is worse than "
            f"{_named(anchor)}, which answers again; frozen until someone looks"
        )
    elif failed is not None:
        reason = (
            f"refused: {failed.name} is {_shown(failed.number)}, expected "
            f"{'at least' if failed.name.startswith('finite') else 'at most'} "
            f"{failed.threshold:g}; version {current} goes on answering"
        )
    elif current == 0 and evidence.match is not None:
        does = "leaves" if enough.passed else "waits at"
        reason = f"{does} version 0: {enough.name} {rate:.1%}, wanted {wanted:.1%}"
    elif current == 0 and not enough.passed:
        reason = _waiting(leaving, least, evidence.label)
    elif current == 0:
        reason = f"leaves version 0: {evidence.label} {_of(leaving)}, lower bound above {least:.4g}"
    else:
        reason = f"published; {_of(running)} against {_named(anchor)}"
    return GateReport(
        candidate=candidate,
        current=current,
        anchor=anchor,
        publish=publish,
        leaves_version_0=publish and current == 0,
        new_anchor=publish and better.passed,
        rollback_to=back_to if roll_back and current != back_to else None,
        freeze=roll_back,
        reason=reason,
        rules=sound + judged,
        evidence={
            "label": evidence.label,
            "mean": running.mean,
            "lower": running.lower,
            "upper": running.upper,
            "n": running.n,
            "leaving_mean": leaving.mean,
            "leaving_lower": leaving.lower,
            "leaving_upper": leaving.upper,
            "leaving_n": leaving.n,
            "scale": evidence.scale,
            "margin": gate.margin,
            "effective_sample": evidence.effective_sample,
        },
    )


def _guard(guardrail: Guardrail, interval: Interval) -> Rule:
    """The bound that is nearer to being broken, as a rule."""
    over = guardrail.most is not None
    if guardrail.most is not None and guardrail.least is not None:
        over = interval.lower - guardrail.most > guardrail.least - interval.upper
    threshold = guardrail.most if over else guardrail.least
    assert threshold is not None
    side, number = ("lower", interval.lower) if over else ("upper", interval.upper)
    name = f"guardrail {guardrail.outcome!r}, {side} bound of its mean"
    return Rule(name, _number(number), threshold, not broken(guardrail, interval))


def _bound_words(rule: Rule) -> str:
    side = "at most" if rule.name.endswith("lower bound of its mean") else "at least"
    return f"{side} {rule.threshold:g}"


def _waiting(leaving: Interval, least: float, label: str) -> str:
    if not math.isfinite(leaving.lower) or leaving.lower == leaving.upper:
        few = "too few" if leaving.n < BURN_IN else "too few, or too much alike,"
        return f"waits at version 0: {leaving.n} decisions are {few} for bounds ({label})"
    if leaving.upper < 0:
        return f"stays at version 0: shown to be worse than the baseline, {label} {_of(leaving)}"
    return f"waits at version 0: {label} {_of(leaving)}, expected a lower bound above {least:.4g}"


def _of(interval: Interval) -> str:
    return (
        f"{_shown(interval.mean)} ({_shown(interval.lower)} to {_shown(interval.upper)}, "
        f"n = {interval.n})"
    )


def _named(anchor: int) -> str:
    return "the baseline (version 0)" if anchor == 0 else f"version {anchor}"


def _shown(value: float | None) -> str:
    return "unknown" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _number(value: Any) -> Any:
    """The value, None for a float that JSON cannot carry."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
