"""Where a query goes on: its checkpoint, or, without one, what was applied."""

from __future__ import annotations

from pathlib import Path

import pytest

from bakehouse_stream.kafka.checkpoints import (
    Checkpoint,
    fingerprint,
    merge_offsets,
    starting_offsets,
)

APPLIED = {"decisions": {"0": 5}}


def test_another_spark_or_another_retention_is_another_checkpoint():
    names = {
        fingerprint(spark_version=version, retention_ms=ms, state_partitions=partitions)
        for version, ms, partitions in [("4.2", 1, 2), ("4.3", 1, 2), ("4.2", 2, 2), ("4.2", 1, 1)]
    }
    assert len(names) == 4


def test_what_was_applied_outlives_the_checkpoint(tmp_path: Path):
    Checkpoint(tmp_path, "one").note_applied(APPLIED)
    other = Checkpoint(tmp_path, "two")
    assert other.is_new
    assert other.applied == APPLIED


def test_a_checkpoint_that_was_refused_twice_is_left_behind(tmp_path: Path):
    first = Checkpoint(tmp_path, "one")
    first.note_applied(APPLIED)
    first.path.mkdir(parents=True)
    for _ in range(2):
        checkpoint = Checkpoint(tmp_path, "one")
        checkpoint.prepare()
        assert checkpoint.path == first.path
        checkpoint.note_refused()
    checkpoint = Checkpoint(tmp_path, "one")
    checkpoint.prepare()
    assert checkpoint.path != first.path
    assert not first.path.exists()
    assert checkpoint.applied == APPLIED


def test_a_batch_that_succeeds_forgives_a_refusal(tmp_path: Path):
    for _ in range(5):
        checkpoint = Checkpoint(tmp_path, "one")
        checkpoint.prepare()
        checkpoint.note_refused()
        checkpoint.note_applied(APPLIED)
    assert checkpoint.path.name == "one-0"


def test_new_tables_begin_at_the_beginning(tmp_path: Path):
    checkpoint = Checkpoint(tmp_path, "one")
    checkpoint.note_applied(APPLIED)
    checkpoint.renew(forget=True)
    assert Checkpoint(tmp_path, "one").applied == {}


def test_the_offset_log_says_where_a_batch_ends_over_all_its_sources(tmp_path: Path):
    checkpoint = Checkpoint(tmp_path, "one")
    (checkpoint.path / "offsets").mkdir(parents=True)
    (checkpoint.path / "offsets" / "3").write_text(
        'v1\n{"batchWatermarkMs":0}\n{"decisions":{"0":9},"outcomes":{"0":4}}\n'
        '{"decisions":{"0":7}}\n-'
    )
    assert checkpoint.planned(3) == {"decisions": {"0": 7}, "outcomes": {"0": 4}}
    (checkpoint.path / "offsets" / "4").write_text("v2\n{}\n")
    with pytest.raises(ValueError, match="'v2', expected 'v1'"):
        checkpoint.planned(4)


def test_offsets_of_several_sources_are_as_far_as_all_have_come():
    assert merge_offsets([{"a": {"0": 3, "1": 1}}, {"a": {"0": 2}}]) == {"a": {"0": 2, "1": 1}}


def test_a_start_lies_within_what_the_broker_has():
    beginnings, ends = {"a": {"0": 10, "1": 0, "2": 0}}, {"a": {"0": 20, "1": 5, "2": 7}}
    applied = {"a": {"0": 3, "1": 9}}
    assert starting_offsets(applied, beginnings, ends) == {"a": {"0": 10, "1": 5, "2": 0}}


def noted(home: Path, boot: str, seconds: list[float]) -> None:
    """A life of stream in which so many seconds pass, one offset a second."""
    now_s = [0.0]
    checkpoint = Checkpoint(home, "one", boot=boot, clock=lambda: now_s[0])
    for at_s in seconds:
        now_s[0] = at_s
        checkpoint.note_applied({"decisions": {"0": int(at_s)}})


def test_after_another_start_of_the_machine_reading_begins_a_minute_before_the_last_note(
    tmp_path: Path,
) -> None:
    noted(tmp_path, "first", [float(at) for at in range(200)])
    same = Checkpoint(tmp_path, "one", boot="first")
    assert (same.applied, same.rewound) == ({"decisions": {"0": 199}}, False)
    other = Checkpoint(tmp_path, "one", boot="second")
    assert other.rewound
    assert other.path != same.path
    # notes are ten seconds apart: the last is of 190, and 130 is a minute before
    assert other.applied == {"decisions": {"0": 130}}
    other.note_applied({"decisions": {"0": 140}})
    assert not Checkpoint(tmp_path, "one", boot="second").rewound


def test_what_one_power_cut_took_is_not_taken_for_settled_at_the_next(tmp_path: Path) -> None:
    noted(tmp_path, "first", [float(at) for at in range(200)])
    noted(tmp_path, "second", [1_000.0])  # up for a while, and something came at last
    assert Checkpoint(tmp_path, "one", boot="third").applied == {"decisions": {"0": 130}}


def test_times_of_another_clock_are_kept_by_the_distances_between_them(tmp_path: Path) -> None:
    noted(tmp_path, "first", [1_700_000_000.0 + at for at in range(0, 100, 10)])  # since 1970
    noted(tmp_path, "first", [5.0, 15.0, 25.0])  # this release, by the monotonic clock
    # the newest of the others counts as noted at 5, so that at 25 a minute ago was 50 of 1.7e9
    other = Checkpoint(tmp_path, "one", boot="second")
    assert other.applied == {"decisions": {"0": 1_700_000_050}}


def test_a_life_of_less_than_a_minute_is_read_again_from_the_beginning(tmp_path: Path) -> None:
    noted(tmp_path, "first", [0.0, 30.0])
    assert Checkpoint(tmp_path, "one", boot="second").applied == {}


def test_a_torn_record_is_read_again_from_the_beginning(tmp_path: Path) -> None:
    noted(tmp_path, "first", [0.0, 30.0])
    (tmp_path / "stream" / "offsets.json").write_bytes(b"")
    checkpoint = Checkpoint(tmp_path, "one", boot="second")
    assert (checkpoint.applied, checkpoint.rewound) == ({}, True)


def test_what_is_remembered_for_a_power_cut_stays_small(tmp_path: Path) -> None:
    noted(tmp_path, "first", [float(at) for at in range(0, 100_000, 7)])
    assert (tmp_path / "stream" / "offsets.json").stat().st_size < 3_000
