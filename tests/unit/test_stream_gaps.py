"""Positions without a record: what Spark passed over, and nothing that a table has lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bakehouse_schemas.replay.account import OUTCOMES, terms, unaccounted
from bakehouse_stream.kafka.checkpoints import Checkpoint
from bakehouse_stream.kafka.decode import OUTPUT_SCHEMA, Record
from bakehouse_stream.kafka.gaps import noting, runs_of, without_record
from bakehouse_stream.kafka.sources import Offsets

STRUCT = pa.struct(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("received_at_ms", pa.int64()),
        ("key", pa.binary()),
        ("value", pa.binary()),
    ]
)


def batch(*places: tuple[str, int, int] | None) -> pa.RecordBatch:
    """Records at these places; None: a pair out of the join."""
    records = [p and Record(p[0], p[1], p[2], 0, None, None)._asdict() for p in places]
    return pa.RecordBatch.from_arrays([pa.array(records, STRUCT)], ["record"])


def run(first: int, beyond: int, *, topic: str = "a", partition: int = 0) -> dict[str, Any]:
    return {"topic": topic, "partition": partition, "first": first, "next": beyond}


def test_what_was_read_is_noted_as_unbroken_runs_for_each_partition() -> None:
    read = batch(("a", 0, 4), ("a", 0, 5), None, ("b", 1, 7), ("a", 0, 7), ("a", 1, 6), ("a", 0, 3))
    assert sorted(map(str, runs_of(read))) == sorted(
        map(
            str,
            [
                run(3, 6),
                run(7, 8),
                run(6, 7, partition=1),
                run(7, 8, topic="b", partition=1),
            ],
        )
    )
    assert runs_of(batch(None)) == runs_of(batch()) == []


def test_rows_come_as_they_were_made_and_then_what_was_read() -> None:
    made = pa.RecordBatch.from_pylist([{"quarantined": {"reason": "no"}}], schema=OUTPUT_SCHEMA)

    def lossy(batches: Any) -> Any:
        """A decoder that makes one row of whatever comes."""
        assert sum(one.num_rows for one in batches) == 3
        yield made

    rows, read = noting(lossy)(iter([batch(("a", 0, 1), ("a", 0, 2)), batch(("a", 0, 3))]))
    assert [row["quarantined"]["reason"] for row in rows.to_pylist()] == ["no"]
    assert rows.to_pylist()[0]["read"] is None
    assert [row["read"] for row in read.to_pylist()] == [run(1, 3), run(3, 4)]
    # three were read, so three are owed, whatever was made of them
    assert without_record([run(1, 3), run(3, 4)], since=at(1), until=at(4)) == 0


def at(offset: int) -> Offsets:
    return {"a": {"0": offset}}


@pytest.mark.parametrize(
    ("read", "since", "until", "expected"),
    [
        ([run(0, 10)], 0, 10, 0),
        ([run(0, 4), run(5, 9)], 0, 10, 2),
        ([], 3, 7, 4),  # markers alone
        ([run(0, 10)], 5, 10, 0),  # half of it had been applied before
        ([run(0, 3), run(8, 10)], 5, 10, 3),
        ([run(0, 3)], 10, 3, 0),  # read again from long ago
        ([run(0, 10, topic="b")], 0, 10, 10),
    ],
)
def test_what_lies_between_the_runs_holds_no_record(
    read: list[dict[str, Any]], since: int, until: int, expected: int
) -> None:
    assert without_record(read, since=at(since), until=at(until)) == expected


def test_a_partition_that_was_added_later_began_at_zero() -> None:
    assert without_record([run(1, 3, partition=1)], since=at(0), until={"a": {"1": 3}}) == 1


def life(home: Path, boot: str) -> Checkpoint:
    """Notes ten seconds apart; a position without a record before every one."""
    now_s = [0.0]
    checkpoint = Checkpoint(home, "one", boot=boot, clock=lambda: now_s[0])
    for number in range(1, 21):
        now_s[0] = 10.0 * number
        checkpoint.note_applied(at(2 * number), no_record=1)
    return checkpoint


def test_the_count_is_kept_beside_the_offsets_and_goes_back_with_them(tmp_path: Path) -> None:
    assert life(tmp_path, "first").no_record == 20
    assert Checkpoint(tmp_path, "one", boot="first").no_record == 20
    after = Checkpoint(tmp_path, "one", boot="second")
    assert (after.rewound, after.applied, after.no_record) == (True, at(28), 14)
    after.restart_at(at(0))  # the topics were made anew
    assert Checkpoint(tmp_path, "one", boot="second").no_record == 0


@pytest.mark.parametrize("boot", ["first", "second"])
def test_a_home_of_a_release_that_counted_none_goes_on(tmp_path: Path, boot: str) -> None:
    record = tmp_path / "stream" / "offsets.json"
    record.parent.mkdir()
    record.write_text(
        '{"generation": 0, "refused": 0, "applied": {"a": {"0": 9}}, "name": "one", "boot": "first"'
        ', "earlier": [[0.0, {"a": {"0": 4}}], [100.0, {"a": {"0": 9}}]]}'
    )
    checkpoint = Checkpoint(tmp_path, "one", boot=boot)
    assert (checkpoint.applied, checkpoint.no_record) == (at(9 if boot == "first" else 4), 0)
    checkpoint.note_applied(at(12), no_record=2)
    assert Checkpoint(tmp_path, "one", boot=boot).no_record == 2


def test_an_account_without_the_term_reads_as_before() -> None:
    old = {"received": 9, **dict.fromkeys(OUTCOMES, 1)}
    assert list(terms(old)) == list(OUTCOMES)
    assert unaccounted(old) == 4
    assert unaccounted(old | {"no_record": 4}) == 0
    assert list(terms(old | {"no_record": 4})) == [*OUTCOMES, "no_record"]
