"""A table whose newest commits did not reach the disk whole is cut back to those that did."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from bakehouse_schemas.events.events import Decision
from bakehouse_schemas.process.settings import Settings
from bakehouse_stream.kafka.decode import Record, decision_row
from bakehouse_stream.tables.log_recovery import recover_log, recover_tables
from bakehouse_stream.tables.tables import Table, create_tables, open_table
from tests.stream_events import decision


def append(table: Table, number: int) -> None:
    place = Record("decisions", 0, number, number, None, b"")
    row = decision_row(Decision.model_validate(decision()), place)
    table.append(pa.Table.from_pylist([row], schema=table.schema))


def offsets(table: Table) -> list[int]:
    rows = table.read(table.files(), ["positions"]).column("positions").to_pylist()
    return sorted(place["offset"] for positions in rows for place in positions)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(home=tmp_path)
    create_tables(made, first_offsets={})
    table = open_table(made, "replay")
    for number in range(1, 6):  # versions 1 to 5
        append(table, number)
    return made


def commit(settings: Settings, version: int) -> Path:
    return Path(settings.tables) / "replay" / "_delta_log" / f"{version:020d}.json"


def data_of(settings: Settings, version: int) -> Path:
    table = open_table(settings, "replay")
    _, files = table.added_since(version - 1)
    return Path(table.uri) / files[0].path


def empty(settings: Settings) -> None:
    commit(settings, 4).write_bytes(b"")


def cut_short(settings: Settings) -> None:
    os.truncate(commit(settings, 4), 50)


def data_missing(settings: Settings) -> None:
    data_of(settings, 4).unlink()


def data_cut_short(settings: Settings) -> None:
    os.truncate(data_of(settings, 4), 100)


def data_of_zeros(settings: Settings) -> None:
    file = data_of(settings, 4)
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize("tear", [empty, cut_short, data_missing, data_cut_short, data_of_zeros])
def test_a_torn_commit_and_what_follows_it_are_set_aside(
    settings: Settings, tear: Callable[[Settings], None]
) -> None:
    tear(settings)
    assert recover_tables(settings) == {"replay": 4}
    table = open_table(settings, "replay")
    assert table.version == 3
    assert offsets(table) == [1, 2, 3]
    append(table, 4)
    assert offsets(open_table(settings, "replay")) == [1, 2, 3, 4]
    aside = Path(table.uri) / "_torn" / f"{4:020d}"
    assert {path.name for path in aside.iterdir()} == {f"{v:020d}.json" for v in (4, 5)}
    assert recover_tables(settings) == {}


def test_a_whole_table_is_left_alone(settings: Settings) -> None:
    assert recover_tables(settings) == {}
    assert offsets(open_table(settings, "replay")) == [1, 2, 3, 4, 5]


def test_checkpoints_of_the_log_that_stand_for_torn_commits_go_with_them(
    settings: Settings,
) -> None:
    table = open_table(settings, "replay")
    table.clean(removed_files_retention_hours=1)  # a checkpoint of version 5
    empty(settings)
    assert recover_log(Path(table.uri)) == 4
    assert offsets(open_table(settings, "replay")) == [1, 2, 3]


def test_what_was_written_long_before_the_cut_is_not_looked_at(settings: Settings) -> None:
    data_of(settings, 1).unlink()  # a vacuum's work, say
    os.utime(commit(settings, 1), (1.0, 1.0))
    assert recover_tables(settings) == {}


def test_tables_in_an_object_store_are_left_alone() -> None:
    assert recover_tables(Settings(tables_uri="s3://somewhere/tables")) == {}


def test_where_there_is_no_table_there_is_nothing_to_mend(tmp_path: Path) -> None:
    assert recover_tables(Settings(home=tmp_path)) == {}
