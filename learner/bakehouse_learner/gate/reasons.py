"""Why the gate decided as it did, in a sentence for people."""

from __future__ import annotations

import math

from bakehouse_learner.gate.report import Evidence, Rule
from bakehouse_learner.statistics.confidence_sequence import BURN_IN, Interval


def reason_for(
    evidence: Evidence,
    *,
    current: int,
    anchor: int,
    failed: Rule | None,
    stopped: Rule | None,
    roll_back: bool,
    enough: Rule,
) -> str:
    """The rule that decided, with its number and threshold.

    Args:
        failed: the first rule by which the candidate is refused.
        stopped: the first guardrail that is violated.
        roll_back: what answers goes back to the anchor, or to the baseline.
        enough: the rule by which a candidate leaves version 0.
    """
    running = _interval(evidence.running)
    if stopped is not None:
        return (
            f"{stopped.name} is {_shown(stopped.number)}, expected {_bound_words(stopped)}: the "
            "baseline (version 0) answers again; frozen until someone looks"
        )
    if roll_back:
        fell = f"the upper bound of {running} fell below 0"
        if current == anchor:
            return (
                f"{fell}: candidates are worse than {_named(anchor)}, which goes on answering; "
                "frozen until someone looks"
            )
        return (
            f"{fell}: version {current} is worse than {_named(anchor)}, which answers again; "
            "frozen until someone looks"
        )
    if failed is not None:
        return (
            f"refused: {failed.name} is {_shown(failed.number)}, expected "
            f"{'at least' if failed.name.startswith('finite') else 'at most'} "
            f"{failed.threshold:g}; version {current} goes on answering"
        )
    if current > 0:
        return f"published; {running} against {_named(anchor)}"
    if evidence.match is not None:
        does, (rate, wanted) = "leaves" if enough.passed else "waits at", evidence.match
        return f"{does} version 0: {enough.name} {rate:.1%}, wanted {wanted:.1%}"
    leaving, least = evidence.on_leaving, enough.threshold
    if not enough.passed:
        return _waiting(leaving, least, evidence.label)
    return f"leaves version 0: {evidence.label} {_interval(leaving)}, lower bound above {least:.4g}"


def _bound_words(rule: Rule) -> str:
    side = "at most" if rule.name.endswith("lower bound of its mean") else "at least"
    return f"{side} {rule.threshold:g}"


def _waiting(leaving: Interval, least: float, label: str) -> str:
    if not math.isfinite(leaving.lower) or leaving.lower == leaving.upper:
        few = "too few" if leaving.n < BURN_IN else "too few, or too much alike,"
        return f"waits at version 0: {leaving.n} decisions are {few} for bounds ({label})"
    difference = f"{label} {_interval(leaving)}"
    if leaving.upper < 0:
        return f"stays at version 0: shown to be worse than the baseline, {difference}"
    return f"waits at version 0: {difference}, expected a lower bound above {least:.4g}"


def _interval(interval: Interval) -> str:
    return (
        f"{_shown(interval.mean)} ({_shown(interval.lower)} to {_shown(interval.upper)}, "
        f"n = {interval.n})"
    )


def _named(anchor: int) -> str:
    return "the baseline (version 0)" if anchor == 0 else f"version {anchor}"


def _shown(value: float | None) -> str:
    return "unknown" if value is None or not math.isfinite(value) else f"{value:.4g}"
