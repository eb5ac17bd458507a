"""What becomes of each outcome of a decision, and why, in words for a person.

The rule itself is `schemas/bakehouse_schemas/application/reward.py`; this only says what it did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bakehouse_schemas.application.reward import DecisionTimes, Reward, TimedOutcome, delay_ms
from bakehouse_schemas.formatting import duration_words

_KINDS = {
    "executed": "it says what the game did instead, and is no reward",
    "activated": "it says that the player saw what was decided, and is no reward",
    "end": "it closes the decision, and is no reward",
    "next": "it is the next decision of the same episode",
}


class Verdict(NamedTuple):
    """Of one outcome."""

    outcome: TimedOutcome
    delay_ms: int  # after the decision; see `bakehouse_schemas.application.reward.delay_ms`
    counted: bool
    why: str


def verdicts(
    rule: Reward,
    times: DecisionTimes,
    outcomes: Sequence[TimedOutcome],
    *,
    matured_at_ms: int | None = None,
) -> list[Verdict]:
    """One for each outcome, in order of occurrence. What counts is `Reward.counted`, unless the
    decision was never activated: then nothing does.

    Args:
        matured_at_ms: see `Reward.counted`.
    """
    active = rule.is_active(times, outcomes)
    counted = rule.counted(times, outcomes, matured_at_ms=matured_at_ms)
    found = []
    for outcome in outcomes:
        after = delay_ms(times, outcome)
        reason = rule.left_out(outcome, after, matured_at_ms)
        why = _left_out(rule, outcome, reason)
        if why is None and not active:
            window = duration_words(rule.window)
            why = f"no `activated` came within {window}: what was not seen was not decided"
        counts = why is None
        if why is None:
            why = _share(rule, outcome, counted)
            if matured_at_ms is not None and outcome.received_at_ms > matured_at_ms:
                why += "; it was delivered after the decision had matured, and amends it"
        found.append(Verdict(outcome, after, counts, why))
    return sorted(found, key=lambda one: (one.delay_ms, one.outcome.outcome_id))


def _left_out(rule: Reward, outcome: TimedOutcome, reason: str | None) -> str | None:
    match reason:
        case "unweighted" if outcome.kind == "reward":
            return "the reward gives this name no weight"
        case "unweighted":
            return _KINDS.get(outcome.kind, f"it is of kind {outcome.kind}, and no reward")
        case "too late":
            return f"it occurred after the window of {duration_words(rule.window)}"
        case "dropped":
            return "it was delivered after the decision had matured, and late='drop' leaves it out"
    return None


def _share(rule: Reward, outcome: TimedOutcome, counted: Sequence[TimedOutcome]) -> str:
    """What a counted outcome does to the reward."""
    if not isinstance(rule.weights, Mapping):
        return "given to the application's reward function"
    value = 1.0 if outcome.value is None else outcome.value
    worth = f"{rule.weights[outcome.name or '']:g} × {value:g}"
    if len(counted) == 1:
        return worth
    if rule.aggregate in ("sum", "mean"):
        return f"{worth}, one of {len(counted)} in the {rule.aggregate}"
    if rule.aggregate in ("first", "last"):
        decides = outcome is counted[0 if rule.aggregate == "first" else -1]
    else:
        decides = rule.value([outcome]) == rule.value(counted)
    return f"{worth}, {'' if decides else 'not '}the {rule.aggregate} of {len(counted)}"
