"""Every consumed position is exactly one of applied, duplicate, pending, orphan, quarantined."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from bakehouse_schemas.errors import InvalidEvent
from bakehouse_schemas.events.events import Decision, Outcome
from bakehouse_schemas.events.fields import DAY_MS
from bakehouse_stream.columns import arrow_schema
from bakehouse_stream.kafka.decode import (
    Record,
    decision_row,
    next_row,
    outcome_row,
    quarantine_row,
)
from bakehouse_stream.tables.accounting import Account, account, received
from tests.stream_events import APPLICATION, decision, outcome

Row = dict[str, Any]
A, B, C = (f"01a204a1-9c69-7{n:03x}-8493-0a2ae2fab7a9" for n in range(3))
UNTIL = {"decisions": {"0": 5}, "outcomes": {"0": 7}}
FIRST = {"decisions": {"0": 0}, "outcomes": {"0": 0}}
NOW_MS = 2_000


def record(topic: str, offset: int) -> Record:
    return Record(topic, 0, offset, 1_000 + offset, None, b"{}")


def decided(decision_id: str, offset: int, *told: Row, **changes: Any) -> Row:
    checked = Decision.model_validate(decision(decision_id, **changes))
    return decision_row(checked, record("decisions", offset)) | {"outcomes": list(told)}


def told(decision_id: str, outcome_id: str, offset: int) -> Row:
    checked = Outcome.model_validate(outcome(decision_id, outcome_id))
    return outcome_row(checked, record("outcomes", offset))


def ledger(decision_id: str, entry: Row) -> Row:
    return {"application": APPLICATION.name, "hour": 1, "decision_id": decision_id} | entry


def following(decision_id: str, offset: int) -> Row:
    checked = Decision.model_validate(decision(decision_id, previous=A))
    return next_row(checked, record("decisions", offset))


@pytest.fixture
def replay() -> list[Row]:
    """Decision A, twice; B after it; outcomes won (twice) and quit of A. One row is repeated."""
    return [
        decided(A, 0),
        decided(A, 0, told(A, "won", 0)),
        decided(A, 0, told(A, "won", 0)),
        decided(A, 1, told(A, "won", 1)),
        decided(A, 1),
        decided(B, 2, previous=A),
        decided(A, 0, following(B, 2)),
        decided(A, 0, told(A, "quit", 2)),
    ]


@pytest.fixture
def outcomes() -> list[Row]:
    """What the replay rows hold, and two of a decision that never came, one of them twice."""
    return [
        ledger(A, told(A, "won", 0)),
        ledger(A, told(A, "won", 1)),
        ledger(A, told(A, "quit", 2)),
        ledger(A, following(B, 2)),
        ledger(C, told(C, "won", 3)),
        ledger(C, told(C, "won", 4)),
        ledger(C, told(C, "won", 4)),
    ]


@pytest.fixture
def quarantine() -> list[Row]:
    refused = [("decisions", 3), ("decisions", 4), ("outcomes", 5), ("outcomes", 6)]
    return [quarantine_row(record(*place), InvalidEvent("no")) for place in (*refused, refused[0])]


def settled(
    replay: list[Row], outcomes: list[Row], quarantine: list[Row], *, now_ms: int = NOW_MS
) -> Account:
    return account(
        pa.Table.from_pylist(replay, schema=arrow_schema("replay")),
        pa.Table.from_pylist(outcomes, schema=arrow_schema("outcomes")),
        pa.Table.from_pylist(quarantine, schema=arrow_schema("quarantine")),
        until=UNTIL,
        stream_time_ms=now_ms,
    )


def test_every_position_is_exactly_one_thing(replay, outcomes, quarantine):
    found = settled(replay, outcomes, quarantine)
    # applied: A, B, won, quit; duplicate: A and won again; next is not counted
    assert found == Account(applied=4, duplicate=2, pending=2, orphan=0, quarantined=4)
    assert found.total == received(FIRST, UNTIL) == 12


def test_after_a_day_what_is_pending_is_orphaned(replay, outcomes, quarantine):
    found = settled(replay, outcomes, quarantine, now_ms=1_004 + DAY_MS)
    assert (found.pending, found.orphan) == (1, 1)
    assert found.total == 12


def test_a_decision_that_is_missing_from_replay_makes_the_account_fall_short(
    replay, outcomes, quarantine
):
    without = [row for row in replay if row["decision_id"] != B]
    assert settled(without, outcomes, quarantine).total < received(FIRST, UNTIL)


def test_an_outcome_that_is_missing_from_the_ledger_makes_the_account_fall_short(
    replay, outcomes, quarantine
):
    without = [row for row in outcomes if row["outcome_id"] != "quit"]
    assert settled(replay, without, quarantine).total < received(FIRST, UNTIL)


def test_a_record_that_is_missing_from_quarantine_makes_the_account_fall_short(
    replay, outcomes, quarantine
):
    assert settled(replay, outcomes, quarantine[1:4]).total < received(FIRST, UNTIL)


def test_an_outcome_that_was_not_joined_is_pending_and_not_applied(replay, outcomes, quarantine):
    found = settled(replay[:-1], outcomes, quarantine)
    assert (found.applied, found.pending) == (3, 3)


def test_rows_beyond_the_offsets_are_not_counted_yet(replay, outcomes, quarantine):
    further = [*replay, decided(C, 5)]
    assert settled(further, outcomes, quarantine) == settled(replay, outcomes, quarantine)


def test_a_partition_that_was_added_later_began_at_zero():
    assert received({"outcomes": {"0": 10}}, {"outcomes": {"0": 12, "1": 3}}) == 5
