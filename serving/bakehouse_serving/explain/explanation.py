"""One decision explained, out of what the tables hold of it and the policy that it names. Pure.

The order is that of the decision itself: context → observation → scores → mask → draw →
outcomes → reward → the policies that were trained on it.
`bakehouse_serving.explain.story` puts it into sentences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bakehouse_schemas.application.actions import Continuous, Discrete, Parts
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.reward import DecisionTimes, TimedOutcome, matured_at_ms
from bakehouse_schemas.contracts.contract import Decides
from bakehouse_schemas.decisions.recompute import Recomputed
from bakehouse_schemas.events.checks import choices_of
from bakehouse_schemas.execution.propensity import next_place
from bakehouse_schemas.policy.bundle import LoadedPolicy
from bakehouse_schemas.policy.carry import carried_over
from bakehouse_schemas.replay.verdicts import verdicts
from bakehouse_schemas.worlds.world import SIMULATED

WAITING = "it was received and not yet met its decision: a matter of seconds"


class RecordedDecision(NamedTuple):
    """What the tables hold of a decision.

    Args:
        decision: the fields of a record of `decisions.v1`, as JSON carries them.
        outcomes: its own, folded; each with `received_at_ms` and `copies`.
        waiting: outcomes in the ledger that have not been joined with it yet.
        received_at_ms: of its earliest copy, by the broker.
        contested: copies of it differ.
    """

    decision: Mapping[str, Any]
    outcomes: Sequence[Mapping[str, Any]]
    waiting: Sequence[Mapping[str, Any]]
    received_at_ms: int
    contested: bool


def explain(
    application: Application,
    found: RecordedDecision,
    *,
    again: Recomputed | None,
    why_not: str | None,
    policy: LoadedPolicy | None,
    now_ms: int,
    under: Decides,
) -> dict[str, Any]:
    """The explanation, all but its sentences and the policies that were trained on it.

    Args:
        under: what the decision was made under: the application, or a contract that it has had.
        again: the decision decided again; None where that cannot be, with `why_not`.
        policy: the one that it names, where it is still there.
    """
    decision = found.decision
    own_words = decision["contract"] == under.contract  # else names may mean other things
    version = decision["policy_version"]
    return {
        "decision_id": decision["decision_id"],
        "application": application.name,
        "contract": decision["contract"],
        "subject_id": decision["subject_id"],
        "episode_id": decision.get("episode_id"),
        "previous_decision_id": decision.get("previous_decision_id"),
        "decided_at_ms": decision["decided_at_ms"],
        "received_at_ms": found.received_at_ms,
        "mode": decision["mode"],
        "cohort": decision["cohort"],
        "explored": decision["explored"],
        "policy_version": version,
        "simulated": str(decision["subject_id"]).startswith(SIMULATED),
        "context": decision["context"],
        "items": decision.get("items"),
        "observation": _observation(under, decision, own_words),
        "policy": _policy(version, policy),
        "scores": _scores(under, decision, again) if own_words else [],
        "numbers": _numbers(under, decision, again) if own_words else [],
        "mask": _mask(under, decision),
        "exploration": decision.get("exploration"),
        "draw": decision.get("draw"),
        "action": decision["action"],
        "baseline_action": decision.get("baseline_action"),
        "propensity": decision["propensity"],
        "recomputed": None if again is None else again.propensity,
        "exact": None if again is None else is_exact(again, decision),
        "why_not": why_not,
        **_came_of_it(application, found, now_ms),
        "contested": found.contested,
        "extra": decision.get("extra"),  # what the record said that stream did not know
    }


def is_exact(again: Recomputed, decision: Mapping[str, Any]) -> bool:
    """Whether the same action came out, with the very same probability."""
    return bool(again.action == decision["action"] and again.propensity == decision["propensity"])


def _observation(
    application: Decides, decision: Mapping[str, Any], own_words: bool
) -> list[dict[str, Any]]:
    values = decision.get("observation")
    if values is None:
        if not own_words:
            return []
        values = application.encoder.encode(decision["context"]).tolist()
    names: Sequence[str] = application.encoder.names
    if not own_words or len(names) != len(values):
        names = [f"number {at}" for at in range(len(values))]
    return [{"feature": n, "value": v} for n, v in zip(names, values, strict=True)]


def _policy(version: int, loaded: LoadedPolicy | None) -> dict[str, Any] | None:
    if version == 0:
        return None
    manifest = None if loaded is None else loaded.manifest
    return {
        "version": version,
        "agent": None if manifest is None else manifest.agent,
        "created_at_ms": None if manifest is None else manifest.created_at_ms,
        "canary": None if manifest is None else manifest.canary,
        "available": manifest is not None,
        "carried_over": carried_over(loaded),
    }


def _mask(application: Decides, decision: Mapping[str, Any]) -> dict[str, list[str]]:
    everything = _choices(application, decision)
    named = decision.get("eligible_actions")
    eligible = everything if named is None else list(named)
    return {
        "eligible": eligible,
        "excluded": [name for name in everything if name not in set(eligible)],
    }


def _choices(application: Decides, decision: Mapping[str, Any]) -> list[str]:
    if not application.shape.segments and application.shape.kind != "ranking":
        return []  # numbers alone
    return list(choices_of(application, decision.get("items")))


def _scores(
    application: Decides, decision: Mapping[str, Any], again: Recomputed | None
) -> list[dict[str, Any]]:
    """A line for each label, label of a part, or item."""
    names = _choices(application, decision)
    eligible = set(_mask(application, decision)["eligible"])
    if again is None:
        own, executed = _logged(application, decision, names)
        scores: Sequence[float | None] = [None] * len(names)
    else:
        mine = again.base_policy.probabilities[0]
        if application.shape.kind == "ranking":
            mine = next_place(mine, again.eligible)
        own, executed = mine.tolist(), again.executed.tolist()
        scores = [None] * len(names) if again.scores is None else again.scores.tolist()
    return [
        {
            "action": name,
            "score": _number(scores[at]),
            "own": _number(own[at]),
            "eligible": name in eligible,
            "executed": _number(executed[at]),
        }
        for at, name in enumerate(names)
    ]


def _logged(
    application: Decides, decision: Mapping[str, Any], names: Sequence[str]
) -> tuple[Sequence[float | None], Sequence[float | None]]:
    """Own and executed probabilities as far as the log itself says them."""
    nothing: list[float | None] = [None] * len(names)
    density = decision.get("density") or {}
    if isinstance(application.actions, Discrete):
        logged = decision.get("action_probabilities")
        return nothing, nothing if logged is None else [logged.get(name, 0.0) for name in names]
    own = density.get("worths") or density.get("probabilities") or nothing
    return (own if len(own) >= len(names) else nothing), nothing


def _numbers(
    application: Decides, decision: Mapping[str, Any], again: Recomputed | None
) -> list[dict[str, Any]]:
    """A line for each bounded number; mean and spread in its own unit."""
    shape = application.shape
    if not shape.dims:
        return []
    density = decision.get("density") or {}
    mean, std, squashed = (
        density.get("mean"),
        density.get("std"),
        "tanh" in str(density.get("kind")),
    )
    if again is not None and not again.sure:
        mean, std = again.drawn_from.mean[0].tolist(), again.drawn_from.std[0].tolist()
        squashed = again.drawn_from.squashed
    if mean is not None and squashed:
        half, tanh = (shape.high - shape.low) / 2, np.tanh(np.array(mean))
        std = (half * (1 - tanh**2) * np.array(std)).tolist()  # to first order
        mean = ((shape.high + shape.low) / 2 + half * tanh).tolist()
    values = application.actions.row_of(decision["action"], decision.get("items"))
    return [
        {
            "name": name,
            "mean": None if mean is None else _number(mean[at]),
            "std": None if std is None else _number(std[at]),
            "low": float(shape.low[at]),
            "high": float(shape.high[at]),
            "value": float(values[len(shape.segments) + at]),
        }
        for at, name in enumerate(number_names(application))
    ]


def number_names(application: Decides) -> list[str]:
    """What each bounded number of an action is called, d of them."""
    actions = application.actions
    parts = actions.parts if isinstance(actions, Parts) else {"number": actions}
    names = []
    for name, part in parts.items():
        if isinstance(part, Continuous):
            one = part.length == 1
            names += [name if one else f"{name} {at + 1}" for at in range(part.length)]
    return names


def _came_of_it(application: Application, found: RecordedDecision, now_ms: int) -> dict[str, Any]:
    """`outcomes` and `reward`."""
    rule = application.reward
    times = DecisionTimes(found.decision["decided_at_ms"], found.received_at_ms)
    timed = {one["outcome_id"]: _timed(one) for one in found.outcomes}
    matured = matured_at_ms(rule, times, list(timed.values()))
    state = "matured" if now_ms >= matured else "open"
    judged = verdicts(rule, times, list(timed.values()), matured_at_ms=matured)
    by_id = {one["outcome_id"]: one for one in found.outcomes}
    outcomes = []
    for verdict in judged:
        one = by_id[verdict.outcome.outcome_id]
        why = verdict.why
        if one["copies"] > 1:
            why += f"; it came {one['copies']} times, and is taken once"
        outcomes.append(_outcome(one, verdict.delay_ms, verdict.counted, why))
    outcomes += [_outcome(one, None, False, WAITING) for one in found.waiting]
    value: float | None = None
    if rule.is_active(times, list(timed.values())):
        try:
            counted = rule.counted(times, timed.values(), matured_at_ms=matured)
            value = _number(float(rule.value(counted)))
        except Exception:  # the application's own function
            value = None
    return {
        "outcomes": outcomes,
        "reward": {
            "value": value,
            "state": state,
            "matured_at_ms": matured,
            "rule": rule.in_words(),
        },
    }


def _timed(one: Mapping[str, Any]) -> TimedOutcome:
    return TimedOutcome(
        one["outcome_id"],
        one["kind"],
        one["name"],
        one["value"],
        one["occurred_at_ms"],
        one["received_at_ms"],
    )


def _outcome(
    one: Mapping[str, Any], delay_ms: int | None, counted: bool, why: str
) -> dict[str, Any]:
    return {
        "outcome_id": one["outcome_id"],
        "kind": one["kind"],
        "name": one["name"],
        "value": one["value"],
        "executed_action": one.get("executed_action"),
        "next_decision_id": one.get("next_decision_id"),
        "occurred_at_ms": one["occurred_at_ms"],
        "received_at_ms": one["received_at_ms"],
        "extra": one.get("extra"),
        "delay_ms": delay_ms,
        "counted": counted,
        "why": why,
    }


def _number(value: float | None) -> float | None:
    """A number that JSON can carry."""
    return None if value is None or not math.isfinite(value) else float(value)
