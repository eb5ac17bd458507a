"""What is compacted and deleted, and when; and what a reader that tails sees of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bakehouse_schemas.events.events import Decision
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.settings import Settings
from bakehouse_stream.kafka.decode import Record, decision_row
from bakehouse_stream.queries.query import Counts
from bakehouse_stream.tables.tables import (
    DataFile,
    LogGone,
    Table,
    create_tables,
    open_table,
    tables_exist,
)
from bakehouse_stream.upkeep.compaction import MIN_FILES, due
from bakehouse_stream.upkeep.maintenance import Maintenance
from bakehouse_stream.upkeep.retention import MS_PER_HOUR, Cleaner, Pace, outlived
from tests.stream_events import decision

QUIET_MS = 600_000
NOW_MS = 10_000_000
HOUR = 498_715


def file(name: str, *, modified_ms: int, hour: int = HOUR, size: int = 1) -> DataFile:
    place = {"application": "game", "hour": hour}
    return DataFile(name, size, 1, modified_ms, place, None, None)


def files(n: int, **given: Any) -> list[DataFile]:
    return [file(str(number), **given) for number in range(n)]


def test_an_hour_that_has_been_quiet_becomes_one_file():
    quiet = files(2, modified_ms=NOW_MS - QUIET_MS)
    assert due(quiet, now_ms=NOW_MS, quiet_ms=QUIET_MS) == {("game", HOUR): quiet}


def test_one_file_is_left_alone():
    assert due(files(1, modified_ms=0), now_ms=NOW_MS, quiet_ms=QUIET_MS) == {}


def test_of_an_hour_that_grows_only_the_older_files_are_folded_and_only_many():
    new = file("new", modified_ms=NOW_MS)
    old = files(MIN_FILES, modified_ms=0)
    assert due([new, *old[1:]], now_ms=NOW_MS, quiet_ms=QUIET_MS) == {}
    large = file("large", modified_ms=0, size=1 << 30)
    found = due([new, large, *old], now_ms=NOW_MS, quiet_ms=QUIET_MS)
    assert found == {("game", HOUR): old}


def test_an_hour_that_is_over_has_its_turn_before_one_that_grows():
    growing = [file("new", modified_ms=NOW_MS), *files(MIN_FILES, modified_ms=0)]
    over = files(2, modified_ms=0, hour=HOUR - 1)
    found = due([*growing, *over], now_ms=NOW_MS, quiet_ms=QUIET_MS)
    assert list(found) == [("game", HOUR - 1), ("game", HOUR)]


def test_hours_that_ended_longer_ago_than_the_retention_are_deleted():
    now_ms = (HOUR + 24) * 3_600_000
    found = outlived(
        [file(str(hour), modified_ms=0, hour=hour) for hour in range(HOUR - 2, HOUR + 1)],
        now_ms=now_ms,
        days=1,
    )
    assert [f.partition["hour"] for f in found] == [HOUR - 2]


class Clocks:
    """Stream time and a monotonic clock, both moved by hand."""

    def __init__(self, stream_time_ms: int) -> None:
        self.stream_time_ms = stream_time_ms
        self.monotonic_s = 50_000.0

    def move(self, hours: float) -> None:
        self.stream_time_ms += int(hours * MS_PER_HOUR)
        self.monotonic_s += hours * 3_600


class Consumed:
    """What maintenance asks of the query."""

    counts = Counts(batches=1)
    applied = ({"d": {"0": 2 * (HOUR + 10)}}, 0)


def keeping(settings: Settings, clocks: Clocks) -> Maintenance:
    """Upkeep of a home, as at the start of a process."""
    kept = Maintenance(
        None,  # type: ignore[arg-type]
        settings,
        Consumed(),  # type: ignore[arg-type]
        stream_time_ms=lambda: clocks.stream_time_ms,
    )
    kept._pace = Pace(settings.home / "stream" / "retention.json", clock=lambda: clocks.monotonic_s)
    return kept


@pytest.fixture
def ten_hours(tmp_path: Path) -> Settings:
    """A home with a decision in each of ten hours, of two applications; kept for a day."""
    settings = Settings(home=tmp_path, replay_retention_days=1)
    create_tables(settings, first_offsets={})
    table = open_table(settings, "replay")
    for hour in range(HOUR, HOUR + 10):
        made = [
            decision_row(
                Decision.model_validate(decision(uuid7(hour * MS_PER_HOUR))),
                Record("d", 0, 2 * hour + nth, hour * MS_PER_HOUR, None, b""),
            )
            for nth in range(2)
        ]
        made[1]["application"] = "another"
        table.append(pa.Table.from_pylist(made, schema=table.schema))
    return settings


def hours_of(settings: Settings) -> list[int]:
    return sorted({f.partition["hour"] for f in open_table(settings, "replay").files()})


def test_a_machine_whose_clock_is_a_month_ahead_deletes_nothing(
    ten_hours: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks((HOUR + 10) * MS_PER_HOUR)
    kept, before = keeping(ten_hours, clocks), hours_of(ten_hours)
    real_ns, real_s, ahead_s = time.time_ns, time.time, 31 * 86_400
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + ahead_s * 10**9)
    monkeypatch.setattr(time, "time", lambda: real_s() + ahead_s)
    for _ in range(100):
        kept._step_retention()
        clocks.move(0.01)
    assert hours_of(ten_hours) == before
    assert list((ten_hours.home / "tables" / "replay").glob("_delta_log/*.json"))


def test_while_stream_time_is_not_known_nothing_is_deleted(ten_hours: Settings) -> None:
    clocks = Clocks(0)
    keeping(ten_hours, clocks)._step_retention()
    assert len(hours_of(ten_hours)) == 10


def test_hours_are_deleted_one_by_one_as_stream_time_passes(ten_hours: Settings) -> None:
    clocks = Clocks((HOUR + 24) * MS_PER_HOUR)
    kept = keeping(ten_hours, clocks)
    for hour in range(10):
        kept._step_retention()
        assert hours_of(ten_hours) == list(range(HOUR + hour, HOUR + 10))
        clocks.move(1 + 1 / 60)  # a step a minute late does not add up
    assert kept._account.closed().applied == 2 * 9  # what was deleted stays accounted for


def test_stream_time_that_jumps_a_month_costs_an_hour_of_the_tables_an_hour(
    ten_hours: Settings,
) -> None:
    clocks = Clocks((HOUR + 10 + 31 * 24) * MS_PER_HOUR)
    kept = keeping(ten_hours, clocks)
    for _ in range(60):
        kept._step_retention()
        clocks.move(1 / 61)
    assert hours_of(ten_hours) == list(range(HOUR + 1, HOUR + 10))
    for _ in range(5):  # one that starts again and again is no faster
        keeping(ten_hours, clocks)._step_retention()
    assert len(hours_of(ten_hours)) == 9
    clocks.stream_time_ms += 31 * 24 * MS_PER_HOUR  # nor is one whose clock jumps again
    kept._step_retention()
    assert len(hours_of(ten_hours)) == 9


def test_a_broker_whose_clock_is_right_again_has_its_hours_deleted_again(
    ten_hours: Settings,
) -> None:
    clocks = Clocks((HOUR + 50_000) * MS_PER_HOUR)
    keeping(ten_hours, clocks)._step_retention()
    assert len(hours_of(ten_hours)) == 9
    clocks.stream_time_ms = (HOUR + 48) * MS_PER_HOUR
    kept = keeping(ten_hours, clocks)
    kept._step_retention()
    assert len(hours_of(ten_hours)) == 9
    clocks.move(1)
    kept._step_retention()
    assert len(hours_of(ten_hours)) == 8


@pytest.fixture
def replay(tmp_path: Path) -> Table:
    settings = Settings(home=tmp_path)
    assert not tables_exist(settings)
    create_tables(settings, first_offsets={"decisions": {"0": 3}})
    assert tables_exist(settings)
    return open_table(settings, "replay")


def rows(table: Table, *offsets: int) -> pa.Table:
    made = [
        decision_row(Decision.model_validate(decision()), Record("d", 0, at, at, None, b""))
        for at in offsets
    ]
    return pa.Table.from_pylist(made, schema=table.schema)


def offsets_of(table: Table, found: list[DataFile]) -> list[int]:
    positions = table.read(found, ["positions"]).column("positions").to_pylist()
    return sorted(p["offset"] for row in positions for p in row)


def test_the_tables_remember_where_their_account_begins(replay: Table):
    assert replay.first_offsets() == {"decisions": {"0": 3}}


def test_an_append_of_nothing_makes_no_commit(replay: Table):
    assert replay.append(rows(replay)) is None
    assert replay.version == 0


def test_replaced_files_are_no_news_to_those_that_tail(replay: Table):
    first = replay.append(rows(replay, 1))
    replay.append(rows(replay, 2))
    gone = replay.files()
    other = rows(replay, 1, 2)
    replay.append(other)
    (written,) = [f for f in replay.files() if f not in gone]
    before = replay.version
    replay.replace(gone, [], now_ms=1)
    assert offsets_of(replay, replay.files()) == [1, 2]
    assert replay.added_since(before) == (before + 1, [])
    newest, news = replay.added_since(first)
    assert newest == before + 1
    assert offsets_of(replay, news) == [1, 2, 2]
    assert written.low == min(other.column("decision_id").to_pylist())


def test_what_was_appended_while_files_were_folded_stays(replay: Table):
    replay.append(rows(replay, 1))
    gone = replay.files()
    same = open_table_again(replay)
    same.append(rows(same, 2))
    replay.replace(gone, [], now_ms=1)
    assert offsets_of(replay, replay.files()) == [2]


def open_table_again(table: Table) -> Table:
    return Table(table.name, table.uri)


def test_a_reader_that_is_behind_the_log_is_told_so(replay: Table):
    for at in range(3):
        replay.append(rows(replay, at))
    replay.clean(removed_files_retention_hours=1)
    (Path(replay.uri) / "_delta_log" / f"{1:020d}.json").unlink()
    with pytest.raises(LogGone, match="version 1"):
        replay.added_since(0)
    assert offsets_of(replay, replay.files()) == [0, 1, 2]


def test_a_file_is_opened_only_where_an_id_can_be_in_it():
    one = DataFile("f", 1, 1, 0, {}, "b", "d")
    assert one.may_hold(["a", "c"])
    assert not one.may_hold(["a", "e"])
    assert not one.may_hold([])


def test_removed_files_are_deleted_once_their_retention_is_over_and_not_before(
    replay: Table, tmp_path: Path
) -> None:
    def on_disk() -> set[str]:
        folder = tmp_path / "tables" / "replay"
        return {str(f.relative_to(folder)) for f in folder.glob("application=*/*/*.parquet")}

    now_ms = time.time_ns() // 1_000_000
    for offset in range(3):
        replay.append(rows(replay, offset))
    old, recent, kept = replay.files()
    replay.drop([old], now_ms=now_ms - 2 * 3_600_000)
    replay.drop([recent], now_ms=now_ms)
    assert len(on_disk()) == 3
    replay.clean(removed_files_retention_hours=1)
    assert len(on_disk()) == 2, "the one removed two hours ago is gone, the recent one is not"
    assert [f.path for f in open_table(Settings(home=tmp_path), "replay").files()] == [kept.path]


def test_after_the_clock_was_set_removed_files_are_kept_for_as_long_as_ever(
    replay: Table, tmp_path: Path
) -> None:
    wall_s, monotonic_s = [time.time()], [0.0]
    cleaner = Cleaner(
        replay,
        removed_files_retention_hours=1,
        clock=lambda: monotonic_s[0],
        wall=lambda: wall_s[0],
    )
    cleaned: list[int] = []
    replay.clean = lambda **_: cleaned.append(1)  # type: ignore[method-assign, assignment]
    cleaner._checkpointed = -1_000  # a clean is due whenever it is asked
    wall_s[0] += 31 * 86_400
    cleaner.step()
    monotonic_s[0], wall_s[0] = 3_599, wall_s[0] + 3_599
    cleaner.step()
    assert not cleaned
    monotonic_s[0], wall_s[0] = 3_600, wall_s[0] + 1
    cleaner.step()
    assert cleaned
