"""What the learner remembers of a decision beside its arrays: as little as the fold needs.

The fold itself is `bakehouse_schemas.replay.fold`.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import orjson

from bakehouse_schemas.application.reward import TimedOutcome
from bakehouse_schemas.replay.fold import merge_rows


class Position(NamedTuple):
    """A place in Kafka, in the order that the fold compares by."""

    received_at_ms: int
    topic: str
    partition: int
    offset: int


class FoldedOutcome(NamedTuple):
    """One outcome, without its payload and its successor's arrays."""

    outcome_id: str
    kind: str
    name: str | None
    value: float | None
    executed_action: str | None  # JSON
    next_decision_id: str | None
    occurred_at_ms: int
    positions: tuple[Position, ...]  # sorted

    @property
    def received_at_ms(self) -> int:
        return self.positions[0].received_at_ms

    def timed(self) -> TimedOutcome:
        """What the reward rule reads."""
        return TimedOutcome(
            self.outcome_id,
            self.kind,
            self.name,
            self.value,
            self.occurred_at_ms,
            self.positions[0].received_at_ms,
        )


class FoldedDecision(NamedTuple):
    """One decision as far as it is known: what decides contests, and its outcomes."""

    action: str  # JSON
    propensity: float
    context: str  # a digest: only equality matters
    positions: tuple[Position, ...]  # sorted
    outcomes: tuple[FoldedOutcome, ...]
    contested: bool

    @property
    def received_at_ms(self) -> int:
        return self.positions[0].received_at_ms

    def first_of(self, kind: str) -> FoldedOutcome | None:
        """The outcome of a kind that the broker received first, None if there is none."""
        found = [outcome for outcome in self.outcomes if outcome.kind == kind]
        return min(found, key=lambda outcome: outcome.positions[0]) if found else None


def digest(text: str) -> str:
    """Sixteen hexadecimal digits that stand for a text."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def merge(first: FoldedDecision, second: FoldedDecision) -> FoldedDecision:
    """Two copies of one decision as one, by the table's own fold."""
    return _from_row(merge_rows(_to_row(first), _to_row(second)))


def _to_row(known: FoldedDecision) -> dict[str, Any]:
    return known._asdict() | {
        "positions": [position._asdict() for position in known.positions],
        "outcomes": [
            outcome._asdict() | {"positions": [place._asdict() for place in outcome.positions]}
            for outcome in known.outcomes
        ],
    }


def _from_row(row: dict[str, Any]) -> FoldedDecision:
    outcomes = tuple(
        FoldedOutcome(**{**outcome, "positions": _positions(outcome["positions"])})
        for outcome in row["outcomes"]
    )
    changed = {"positions": _positions(row["positions"]), "outcomes": outcomes}
    return FoldedDecision(**row | changed)


def _positions(rows: list[dict[str, Any]]) -> tuple[Position, ...]:
    return tuple(Position(**row) for row in rows)


def encode(known: FoldedDecision) -> bytes:
    """One line of JSON: a quarter of the memory of the tuples, and ready for a checkpoint."""
    line = orjson.dumps(
        (
            known.action,
            known.propensity,
            known.context,
            [tuple(position) for position in known.positions],
            [
                (*outcome[:-1], [tuple(position) for position in outcome.positions])
                for outcome in known.outcomes
            ],
            known.contested,
        )
    )
    return bytes(memoryview(line))  # a copy: orjson's keeps the 4 to 8 KB that it grew to


def decode(line: bytes) -> FoldedDecision:
    """The inverse of `encode`."""
    action, propensity, context, positions, outcomes, contested = orjson.loads(line)
    return FoldedDecision(
        action,
        propensity,
        context,
        tuple(Position(*position) for position in positions),
        tuple(
            FoldedOutcome._make([*fields, tuple(Position(*position) for position in places)])
            for *fields, places in outcomes
        ),
        contested,
    )
