"""How long until a difference could be seen, with today's exploration, holdout and rate?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bakehouse_learner.offline.advice.finding import Finding
from bakehouse_learner.offline.advice.reward import DECISIONS_NEEDED, action_values
from bakehouse_learner.offline.advice.sample import Sample
from bakehouse_learner.replay.episodes import finished_episodes
from bakehouse_learner.statistics.confidence_sequence import boundary
from bakehouse_schemas.application.application import Episodic
from bakehouse_schemas.execution.propensity import executed_distribution, one_hot

DIFFERENCES = (0.01, 0.05, 0.10)  # of the mean reward
POWER = 0.84  # standard errors beyond the bound: seen in 80% of cases
SMALL = 0.1  # of a standard deviation: a mean below it is no measure of a difference
LONG_DAYS = 60.0
LATER = 1_000_000  # decisions after which exploration stands where it will


def sample_size(sample: Sample) -> Finding:
    """Decisions and days until a difference of 1%, 5% and 10% could be seen.

    By the bound that the gate uses (it holds at every look), as paired doubly robust difference of
    a model's best action, with the application's exploration, and the rules; and as difference of
    the policy's players and the holdout.
    """
    application, slots = sample.application, sample.drawn
    if len(slots) < DECISIONS_NEEDED:
        return Finding(
            "patience", "know",
            f"How long a difference takes to be seen cannot be said from {len(slots)} decisions.",
            {"decisions": len(slots), "least": DECISIONS_NEEDED},
            "Ask again with more.",
        )  # fmt: skip
    units, values = _units(sample)
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    of_mean = abs(mean) >= SMALL * spread
    measure = abs(mean) if of_mean else spread
    holdout = application.rollout.holdout
    ways: dict[str, tuple[float, float]] = {}  # name → sd of a unit's part, units a decision
    a_decision = len(values) / max(len(sample.everything), 1)
    if units == "decisions" and sample.ring.labels:
        share = len(slots) / max(len(sample.everything), 1)
        ways["paired, doubly robust"] = (float(_paired(sample).std(ddof=1)), share)
    if holdout > 0:
        ways["against the holdout"] = (spread / math.sqrt(holdout * (1 - holdout)), a_decision)
    alpha = 1.0 - application.gate.confidence
    table: dict[str, Any] = {}
    for name, (sd, per_decision) in ways.items():
        for share in DIFFERENCES:
            needed = units_until(share * measure, sd, alpha) / per_decision
            days = None if sample.a_day is None else needed / sample.a_day
            table[f"{share:.0%}, {name}"] = {"decisions": float(f"{needed:.3g}"), "days": days}
    evidence = {
        f"mean reward of {units}": mean,
        "standard deviation": spread,
        "decisions a day": sample.a_day,
        "until seen": table,
    }
    what = "of the mean reward" if of_mean else "of a standard deviation (the mean is near 0)"
    return _finding(evidence, table, what, ways=list(ways))


def units_until(difference: float, sd: float, alpha: float) -> float:
    """Units until an interval that holds at every look leaves 0 out, in 80% of cases.

    The n at which `(boundary(n) + 0.84) sd / √n` is the difference: by bisection of log n.
    """
    low, high = 0.0, 60.0  # log n
    for _ in range(60):
        middle = (low + high) / 2
        n = math.exp(middle)
        half = (boundary(max(int(n), 1), alpha) + POWER) * sd / math.sqrt(n)
        low, high = (middle, high) if half > difference else (low, middle)
    return math.exp(high)


def _units(sample: Sample) -> tuple[str, np.ndarray]:
    """Rewards of decisions, or returns of finished episodes."""
    problem, ring = sample.application.problem, sample.ring
    if not isinstance(problem, Episodic):
        return "decisions", ring.reward[sample.drawn]
    finished = finished_episodes(ring, problem).members
    if len(finished) < DECISIONS_NEEDED:
        return "decisions", ring.reward[sample.drawn]
    returns = [float(ring.reward[e] @ problem.discount ** np.arange(len(e))) for e in finished]
    return "episodes", np.array(returns)


def _paired(sample: Sample) -> np.ndarray:
    """Each decision's part in the difference of a model's best action and the rules. `[n]`"""
    ring, slots = sample.ring, sample.drawn
    worth = action_values(sample, slots)
    eligible, actions = ring.eligible[slots], worth.shape[1]
    later = sample.application.exploration.after(LATER)
    best = np.where(eligible, worth, -np.inf).argmax(axis=1)
    at = np.arange(len(slots))
    apart = np.zeros(worth.shape)
    for row in at.tolist():
        executed = executed_distribution(
            one_hot(int(best[row]), actions), eligible[row], epsilon=later.epsilon,
            floor=later.floor,
        )  # fmt: skip
        apart[row] = executed - _ruled(sample, int(slots[row]), eligible[row])
    taken = ring.action[slots]
    weight = apart[at, taken] / ring.propensity[slots]
    return np.asarray(
        np.sum(apart * worth, axis=1) + weight * (ring.reward[slots] - worth[at, taken])
    )


def _ruled(sample: Sample, slot: int, eligible: np.ndarray) -> np.ndarray:
    ring = sample.ring
    if ring.has_baseline[slot] and eligible[int(ring.baseline[slot])]:
        return one_hot(int(ring.baseline[slot]), len(eligible))
    return np.asarray(eligible / max(int(eligible.sum()), 1))


def _finding(
    evidence: dict[str, Any], table: dict[str, Any], what: str, *, ways: list[str]
) -> Finding:
    if not ways:
        return Finding(
            "patience", "soon",
            "Nobody is left out of the policy (holdout 0), and of such actions no paired "
            "difference is estimated: no difference will be seen by itself.",
            evidence,
            "Write rollout=Rollout(holdout=0.1).",
        )  # fmt: skip
    found = [table[f"5%, {name}"] for name in ways]
    quickest = min(found, key=lambda one: one["decisions"])
    days = quickest["days"]
    when = "" if days is None else f", {days:,.1f} days at today's rate"
    says = (
        f"A difference of 5% {what} could be seen after {quickest['decisions']:,.0f} "
        f"decisions{when}."
    )
    if days is not None and days > LONG_DAYS:
        return Finding(
            "patience", "soon", says, evidence,
            "Explore more, hold out more, take a reward with less noise, or content yourself "
            "with larger differences.",
        )  # fmt: skip
    return Finding("patience", "know", says, evidence, "Do not judge a change any sooner.")
