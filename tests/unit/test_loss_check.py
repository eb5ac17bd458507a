"""The promise kept or not, told from real Delta tables."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from bakehouse.demo.loss_check import check_loss, folded_decisions
from bakehouse.demo.watch import ReplayWatch

POSITION = {"received_at_ms": 1, "topic": "decisions", "partition": 0, "offset": 0}


def outcome(outcome_id: str) -> dict[str, Any]:
    return {"outcome_id": outcome_id, "positions": [POSITION | {"topic": "outcomes"}]}


def row(decision_id: str, *outcomes: str, offset: int = 0, action: str = '"a"') -> dict[str, Any]:
    return {
        "application": "game",
        "hour": 1,
        "decision_id": decision_id,
        "decided_at_ms": 5,
        "context": "{}",
        "eligible_actions": "[]",
        "items": "null",
        "action": action,
        "propensity": 0.5,
        "action_probabilities": "{}",
        "exploration": "{}",
        "policy_version": 1,
        "cohort": "policy",
        "positions": [POSITION | {"offset": offset}],
        "contested": False,
        "outcomes": [outcome(one) for one in outcomes],
    }


SCHEMA = pa.Table.from_pylist([row("d", "o")]).schema


def append(table: Path, *rows: dict[str, Any]) -> None:
    write_deltalake(
        str(table),
        pa.Table.from_pylist(list(rows), schema=SCHEMA),
        mode="append",
        partition_by=["application", "hour"],
    )


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    append(tmp_path / "replay", row("d1"), row("d2", offset=1))
    append(tmp_path / "replay", row("d1", "o1"))
    append(tmp_path / "replay", row("d1", "o1"), row("d1", "o2"))
    ledger = [{"application": "game", "outcome_id": name} for name in ("o1", "o2", "o3")]
    write_deltalake(str(tmp_path / "outcomes"), pa.Table.from_pylist(ledger))
    return tmp_path


def test_nothing_is_lost_that_stands_in_some_row(tables: Path) -> None:
    found = check_loss(tables, "game", decisions=["d1", "d2"], outcomes=["o1", "o2"])
    assert found.lost == 0
    assert found.unjoined_outcomes == []


def test_what_is_in_no_table_is_lost_and_named(tables: Path) -> None:
    found = check_loss(tables, "game", decisions=["d1", "d9"], outcomes=["o1", "o9", "o8"])
    assert found.lost == 3
    assert found.lost_decisions == ["d9"]
    assert found.lost_outcomes == ["o8", "o9"]


def test_an_outcome_in_the_ledger_alone_is_unjoined_and_not_lost(tables: Path) -> None:
    found = check_loss(tables, "game", decisions=[], outcomes=["o3"])
    assert (found.lost, found.unjoined_outcomes) == (0, ["o3"])


def test_another_application_keeps_no_promise_of_this_one(tables: Path) -> None:
    assert check_loss(tables, "other", decisions=["d1"], outcomes=["o1"]).lost == 2


def test_what_is_in_quarantine_is_told_with_its_reason(tables: Path) -> None:
    value = json.dumps({"decision_id": "d7", "outcome_id": "o7"})
    rows = [{"value": value, "reason": "no name"}, {"value": "not JSON", "reason": "garbage"}]
    write_deltalake(str(tables / "quarantine"), pa.Table.from_pylist(rows))
    found = check_loss(tables, "game", decisions=[], outcomes=["o7"])
    assert (found.lost, found.quarantined) == (0, {"no name": 1})


def test_without_tables_everything_is_lost(tmp_path: Path) -> None:
    assert check_loss(tmp_path, "game", decisions=["d1"], outcomes=["o1"]).lost == 2


def test_folded_decisions_stand_once_each_with_the_earliest_copy(tables: Path) -> None:
    append(tables / "replay", row("d2", offset=9, action='"b"'))
    folded = {one["decision_id"]: one for one in folded_decisions(tables, "game")}
    assert set(folded) == {"d1", "d2"}
    assert folded["d2"]["action"] == '"a"'
    assert folded["d2"]["contested"]


def test_the_watch_notes_the_first_version_that_holds_an_outcome(tables: Path) -> None:
    watch = ReplayWatch(tables / "replay", "game")
    watch.look()
    assert watch.outcomes == {"o1": 1, "o2": 2}
    assert watch.decisions == {"d1", "d2"}
    append(tables / "replay", row("d2", "o5"))
    watch.look()
    assert watch.outcomes["o5"] == 3


def test_the_watch_leaves_out_successors_other_applications_and_compaction(tables: Path) -> None:
    append(tables / "replay", row("d2", "next:d3"), row("dx", "ox") | {"application": "other"})
    DeltaTable(str(tables / "replay")).optimize.compact()  # says nothing new
    watch = ReplayWatch(tables / "replay", "game")
    watch.look()
    assert set(watch.outcomes) == {"o1", "o2"}
    assert watch.decisions == {"d1", "d2"}


def test_the_watch_waits_for_a_table_that_is_not_there(tmp_path: Path) -> None:
    watch = ReplayWatch(tmp_path / "replay", "game")
    watch.look()
    assert watch.outcomes == {}
