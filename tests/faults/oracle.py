"""What the folded tables must say, worked out from the list of what was sent and nothing else.

No Spark, no Delta, no join and none of the product's own fold: two dictionaries. A copy comes
before another by the broker's time, then by topic, partition and offset.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Position = tuple[int, str, int, int]  # broker's ms, topic, partition, offset

DECISION_FIELDS = (
    "contract",
    "subject_id",
    "episode_id",
    "previous_decision_id",
    "decided_at_ms",
    "context",
    "action",
    "propensity",
    "policy_version",
    "cohort",
)
OUTCOME_FIELDS = ("kind", "name", "value", "executed_action", "payload", "occurred_at_ms")
ADDED = "extra"  # all fields of a record that are not among these
KNOWN_OF_DECISION = {
    *DECISION_FIELDS,
    *("schema", "decision_id", "application", "observation", "items", "eligible_actions"),
    *("action_probabilities", "density", "baseline_action", "exploration", "draw", "mode"),
    "explored",
}
KNOWN_OF_OUTCOME = {"schema", "outcome_id", "application", "decision_id", *OUTCOME_FIELDS}
DRAWN = ("action", "propensity", "context")  # copies that differ in these were drawn twice


class Sent(NamedTuple):
    """One record as the broker keeps it; `event` is None where it was made to be refused."""

    received_at_ms: int
    topic: str
    partition: int
    offset: int
    event: Mapping[str, Any] | None

    @property
    def position(self) -> Position:
        return self[:4]


class Told(NamedTuple):
    """One outcome: what its first copy said, and where all its copies are."""

    says: str  # canonical JSON
    positions: frozenset[Position]


class Experience(NamedTuple):
    """One decision and all that is known of it."""

    says: str  # canonical JSON
    positions: frozenset[Position]
    contested: bool
    outcomes: dict[str, Told]


def canonical(event: Mapping[str, Any], fields: Iterable[str]) -> str:
    """These fields as one text, equal where they say the same."""
    return json.dumps({name: event.get(name) for name in fields}, sort_keys=True)


def folded(sent: Iterable[Sent], *, decisions: str) -> dict[tuple[str, str], Experience]:
    """The folded replay table, by `(application, decision_id)`; `decisions` names their topic."""
    copies: dict[tuple[str, str], list[Sent]] = defaultdict(list)
    told: dict[tuple[str, str], dict[str, list[Sent]]] = defaultdict(lambda: defaultdict(list))
    for one in sorted(sent, key=lambda one: one.position):
        if one.event is None:
            continue
        application, of = one.event["application"], one.event["decision_id"]
        if one.topic == decisions:
            copies[application, of].append(one)
            if (previous := one.event.get("previous_decision_id")) is not None:
                told[application, previous][f"next:{of}"].append(one)
        else:
            told[application, of][one.event["outcome_id"]].append(one)
    return {
        key: Experience(
            canonical(
                _with_added(here[0].event or {}, KNOWN_OF_DECISION), (*DECISION_FIELDS, ADDED)
            ),
            frozenset(one.position for one in here),
            len({canonical(one.event or {}, DRAWN) for one in here}) > 1,
            {outcome_id: _told(those, decisions) for outcome_id, those in told[key].items()},
        )
        for key, here in copies.items()
    }


def _told(copies: list[Sent], decisions: str) -> Told:
    event = dict(copies[0].event or {})
    if copies[0].topic == decisions:  # a decision is an outcome of the one before it
        event = {"kind": "next", "occurred_at_ms": event["decided_at_ms"]}
    says = canonical(_with_added(event, KNOWN_OF_OUTCOME), (*OUTCOME_FIELDS, ADDED))
    return Told(says, frozenset(one.position for one in copies))


def _with_added(event: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    added = {name: value for name, value in event.items() if name not in known}
    return {**event, ADDED: added or None}


def account(sent: Iterable[Sent], *, decisions: str) -> dict[str, int]:
    """What became of every record; `waiting` is pending and orphan together."""
    every = list(sent)
    seen: Counter[tuple[Any, ...]] = Counter()
    for one in every:
        if one.event is not None:
            outcome = None if one.topic == decisions else one.event["outcome_id"]
            seen[one.event["application"], one.event["decision_id"], outcome] += 1
    known = {key[:2] for key in seen if key[2] is None}
    joined = {key: count for key, count in seen.items() if key[:2] in known}
    return {
        "received": len(every),
        "applied": len(joined),
        "duplicate": sum(joined.values()) - len(joined),
        "waiting": sum(seen.values()) - sum(joined.values()),
        "quarantined": sum(one.event is None for one in every),
    }


def experience_of(row: Mapping[str, Any]) -> Experience:
    """A folded row of the table, in the words of the oracle."""
    texts = ("context", "action", ADDED)
    decision = dict(row) | {name: _parsed(row[name]) for name in texts}
    outcomes: dict[str, Told] = {}
    for outcome in row["outcomes"]:
        if outcome["outcome_id"] in outcomes:
            raise ValueError(f"{row['decision_id']} holds {outcome['outcome_id']} twice")
        said = dict(outcome) | {
            name: _parsed(outcome[name]) for name in ("executed_action", "payload", ADDED)
        }
        outcomes[outcome["outcome_id"]] = Told(
            canonical(said, (*OUTCOME_FIELDS, ADDED)), _positions(outcome["positions"])
        )
    return Experience(
        canonical(decision, (*DECISION_FIELDS, ADDED)),
        _positions(row["positions"]),
        row["contested"],
        outcomes,
    )


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _positions(rows: Iterable[Mapping[str, Any]]) -> frozenset[Position]:
    return frozenset(
        (row["received_at_ms"], row["topic"], row["partition"], row["offset"]) for row in rows
    )
