"""The gate: may this candidate answer players, and is the one that does still good.

Four rules, each reported with its number and threshold. Pure: the caller brings the evidence
and carries out what is decided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bakehouse_learner.gate.guardrails import is_violated
from bakehouse_learner.gate.reasons import reason_for
from bakehouse_learner.gate.report import Evidence, GateReport, Rule, number
from bakehouse_learner.statistics.confidence_sequence import Interval
from bakehouse_schemas.application.application import Gate
from bakehouse_schemas.application.rollout import Guardrail

SCORE_SLACK = 10.0  # how far beyond the rewards seen a score may lie and still be believed


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

    A guardrail that is surely violated takes every policy back: to version 0, frozen.

    Args:
        gate: the application's thresholds.
        candidate, current, anchor: version numbers; 0 is the baseline.
        losses: of the training that made it, by name.
        golden_scores: the candidate's, float `[G, A]`
        largest_score: see `score_limit`.
        shift: see `action_shift`.
        evidence: what evaluation says now.
    """
    sound = _soundness(gate, losses, golden_scores, largest_score=largest_score, shift=shift)
    running = evidence.running
    not_worse = Rule("upper bound", number(running.upper), 0.0, not running.upper < 0)
    better = Rule("lower bound moves the anchor", number(running.lower), 0.0, running.lower > 0)
    enough = _enough(gate, evidence)
    guards = tuple(_guard(*one) for one in evidence.guardrails)

    failed = next((rule for rule in sound if not rule.passed), None)
    # The evidence is about what has been answering, so a bad candidate does not excuse it.
    stopped = next((rule for rule in guards if not rule.passed), None) if current > 0 else None
    roll_back = current > 0 and (stopped is not None or not not_worse.passed)
    back_to = anchor if stopped is None else 0
    publish = failed is None and not roll_back and (current > 0 or enough.passed)
    return GateReport(
        candidate=candidate,
        current=current,
        anchor=anchor,
        publish=publish,
        leaves_version_0=publish and current == 0,
        new_anchor=publish and better.passed,
        rollback_to=back_to if roll_back and current != back_to else None,
        freeze=roll_back,
        reason=reason_for(
            evidence,
            current=current,
            anchor=anchor,
            failed=failed,
            stopped=stopped,
            roll_back=roll_back,
            enough=enough,
        ),
        rules=sound + ((enough, better) if current == 0 else (not_worse, better, *guards)),
        evidence=_numbers(gate, evidence),
    )


def _soundness(
    gate: Gate,
    losses: Mapping[str, float],
    golden_scores: np.ndarray,
    *,
    largest_score: float,
    shift: float,
) -> tuple[Rule, ...]:
    """Rule 1, in its parts."""
    learned = float(np.mean(np.isfinite(list(losses.values())))) if losses else 1.0
    finite = float(np.mean(np.isfinite(golden_scores))) if golden_scores.size else 0.0
    largest = float(np.max(np.abs(golden_scores))) if finite == 1.0 else math.inf
    return (
        Rule("finite share of losses", learned, 1.0, learned == 1.0),
        Rule("finite share of golden scores", finite, 1.0, finite == 1.0),
        Rule("largest golden score", number(largest), largest_score, largest <= largest_score),
        Rule("action shift", shift, gate.action_shift, shift <= gate.action_shift),
    )


def _enough(gate: Gate, evidence: Evidence) -> Rule:
    """Rule 2: what it takes to leave version 0."""
    if evidence.match is not None:
        rate, wanted = evidence.match
        return Rule("match with the baseline", rate, wanted, rate >= wanted)
    leaving, least = evidence.on_leaving, -gate.margin * evidence.scale
    return Rule(
        f"lower bound to leave version 0 ({evidence.label})",
        number(leaving.lower),
        least,
        # an interval without width comes of what has not varied: it bounds nothing
        least < leaving.lower < leaving.upper and leaving.upper >= 0,
    )


def _guard(guardrail: Guardrail, interval: Interval) -> Rule:
    """The bound that is nearer to being violated, as a rule."""
    over = guardrail.most is not None
    if guardrail.most is not None and guardrail.least is not None:
        over = interval.lower - guardrail.most > guardrail.least - interval.upper
    threshold = guardrail.most if over else guardrail.least
    assert threshold is not None
    side, bound = ("lower", interval.lower) if over else ("upper", interval.upper)
    name = f"guardrail {guardrail.outcome!r}, {side} bound of its mean"
    return Rule(name, number(bound), threshold, not is_violated(guardrail, interval))


def _numbers(gate: Gate, evidence: Evidence) -> dict[str, Any]:
    """What the rules looked at, for the report."""
    running, leaving = evidence.running, evidence.on_leaving
    return {
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
    }
