"""Tables of an earlier release get this one's columns, and everybody who reads them goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from bakehouse_learner.offline.history.history import read_history
from bakehouse_learner.replay.rebuild import rebuild as rebuild_ring
from bakehouse_learner.replay.row_decoder import RowDecoder
from bakehouse_schemas.ids import uuid7, uuid7_hour
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.replay.fold import fold_rows
from bakehouse_serving.explain.tables import Tables
from bakehouse_stream.kafka.decode import Decoder, Record
from bakehouse_stream.tables.running_account import by_partition
from bakehouse_stream.tables.tables import add_columns, create_tables, open_table
from bakehouse_stream.upkeep.compaction import compact
from bakehouse_stream.upkeep.repair import Repair
from tests.homes import OF_2026_11
from tests.stream_events import APPLICATION, decision, outcome

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).parents[2]
BEFORE = "1ccc952"  # the release before, whose readers must go on
TABLES = ("replay", "outcomes", "quarantine")


@pytest.fixture
def old_home(tmp_path: Path) -> Settings:
    return Settings(home=OF_2026_11.tables_below(tmp_path / "old"))


def columns(settings: Settings, table: str) -> dict[str, Any]:
    schema = pa.schema(DeltaTable(open_table(settings, table).uri).schema().to_arrow())
    return {field.name: field.type for field in schema}


def all_rows(settings: Settings, table: str) -> list[dict[str, Any]]:
    opened = open_table(settings, table)
    found: list[dict[str, Any]] = opened.read(opened.files(), opened.schema.names).to_pylist()
    return found


def test_the_tables_of_an_old_home_get_the_columns_and_nothing_that_is_there_moves(
    old_home: Settings,
) -> None:
    before = {name: open_table(old_home, name).files() for name in TABLES}
    first = open_table(old_home, "replay").first_offsets()
    assert set(add_columns(old_home)) == set(TABLES)
    assert add_columns(old_home) == {}  # once
    assert "extra" in columns(old_home, "replay")
    entry = columns(old_home, "replay")["outcomes"].value_type
    assert "extra" in {field.name for field in entry}
    assert "extra" in columns(old_home, "outcomes")
    assert "waits" in columns(old_home, "quarantine")
    assert {name: open_table(old_home, name).files() for name in TABLES} == before
    assert open_table(old_home, "replay").first_offsets() == first
    rows = all_rows(old_home, "replay")
    assert len(fold_rows(rows)) == OF_2026_11.decisions
    assert {row["extra"] for row in rows} == {None}
    assert {one["extra"] for row in rows for one in row["outcomes"]} == {None}


def append_new(settings: Settings, like: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A decision and its outcome with added fields, beside one that is there, as stream appends
    them; returns its id and the decision."""
    application = load_application(OF_2026_11.ref).application
    topic = settings.topic("decisions")
    decoder = Decoder({application.name: application}, topic)
    at_ms = like["positions"][0]["received_at_ms"]
    decision_id = uuid7(like["hour"] * 3_600_000 + 1)
    event = decision(
        decision_id,
        application=application.name,
        contract=application.contract,
        context=json.loads(like["context"]),
        observation=None,
        action=json.loads(like["action"]),
        propensity=0.5,
        region="eu",
    )
    told = outcome(decision_id, "o1", application=application.name, region="us")
    places = {"decisions": (event, 10**6), "outcomes": (told, 10**6)}
    one, other = (
        Record(settings.topic(name), 0, offset, at_ms, b"k", json.dumps(said).encode())
        for name, (said, offset) in places.items()
    )
    for output in (*decoder.single(one), *decoder.single(other)):
        ((name, row),) = output.items()
        table = open_table(settings, {"replay": "replay", "outcome": "outcomes"}[name])
        table.append(pa.Table.from_pylist([row], schema=table.schema))
    return decision_id, event


def test_old_and_new_files_are_read_repaired_and_folded_together(
    old_home: Settings, spark: SparkSession, tmp_path: Path
) -> None:
    add_columns(old_home)
    before = fold_rows(all_rows(old_home, "replay"))
    like = next(iter(before.values()))
    decision_id, _ = append_new(old_home, like)
    application = load_application(OF_2026_11.ref).application
    memory = tmp_path / "repair.json"
    ledger, replay = open_table(old_home, "outcomes"), open_table(old_home, "replay")
    Repair(spark, ledger, replay, memory).step()
    for table in ("replay", "outcomes"):
        opened = open_table(old_home, table)
        for place, files in by_partition(opened.files()).items():
            if len(files) > 1:
                compact(spark, opened, place, files, now_ms=1)
    after = fold_rows(all_rows(old_home, "replay"))
    mine = after.pop((application.name, decision_id))
    assert json.loads(mine["extra"]) == {"region": "eu"}
    assert [json.loads(one["extra"]) for one in mine["outcomes"]] == [{"region": "us"}]
    assert after == before
    explained = Tables(old_home.tables).find(application.name, decision_id)
    assert explained is not None
    assert explained.decision["extra"] == {"region": "eu"}
    assert explained.outcomes[0]["extra"] == {"region": "us"}
    ring = rebuild_ring(f"{old_home.tables}/replay", application, RowDecoder(application)).ring
    assert ring.size == OF_2026_11.decisions + 1
    assert len(read_history(application, old_home.home).arrivals) >= OF_2026_11.decisions


def test_a_file_without_the_columns_is_explained_and_learned_from(old_home: Settings) -> None:
    add_columns(old_home)
    application = load_application(OF_2026_11.ref).application
    like = all_rows(old_home, "replay")[0]
    explained = Tables(old_home.tables).find(application.name, like["decision_id"])
    assert explained is not None
    assert "extra" not in explained.decision
    assert all(one["extra"] is None for one in explained.outcomes)


READERS = """
import json, sys
from bakehouse_learner.replay.rebuild import rebuild
from bakehouse_learner.replay.row_decoder import RowDecoder
from bakehouse_learner.replay.tail import Tail
from bakehouse_schemas.loading import load_application
from bakehouse_serving.explain.tables import Tables
from bakehouse_schemas.replay.tables import DECISION
assert "extra" not in DECISION, "not the release before"
ref, tables, decision_id = sys.argv[1:]
application = load_application(ref).application
found = rebuild(f"{tables}/replay", application, RowDecoder(application))
tail = Tail(f"{tables}/replay", application.name, version=found.version - 1)
rows = [len(RowDecoder(application).decode(tail.read(added, __import__(
    "bakehouse_learner.replay.row_decoder", fromlist=["COLUMNS"]).COLUMNS)))
    for commit in tail.poll() for added in commit.added]
told = Tables(tables).find(application.name, decision_id)
print(json.dumps([found.ring.size, sum(rows), told.decision["action"], len(told.waiting),
    Tables(tables).refused("k")]))
"""


@pytest.mark.full
def test_the_readers_of_the_release_before_go_on_with_what_this_one_writes(
    old_home: Settings, tmp_path: Path
) -> None:
    parts = ("schemas", "stream", "learner", "serving", "bakehouse")
    packed = subprocess.run(
        ["git", "archive", BEFORE, *parts], cwd=ROOT, capture_output=True, check=False
    )
    if packed.returncode != 0:
        pytest.skip(f"the history of the repository is not here: no commit {BEFORE}")
    subprocess.run(["tar", "-x", "-C", str(tmp_path)], input=packed.stdout, check=True)
    add_columns(old_home)
    decision_id, event = append_new(old_home, all_rows(old_home, "replay")[0])
    path = os.pathsep.join(str(tmp_path / part) for part in parts)
    read = subprocess.run(
        [sys.executable, "-c", READERS, OF_2026_11.ref, old_home.tables, decision_id],
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert read.returncode == 0, read.stderr
    size, tailed, action, waiting, refused = json.loads(read.stdout.splitlines()[-1])
    assert size == OF_2026_11.decisions + 1
    assert tailed == 1
    assert action == event["action"]
    assert waiting == 1
    assert refused == []


def test_columns_of_a_later_release_are_null_in_what_this_one_adds_and_are_kept_by_all(
    spark: SparkSession, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path)
    create_tables(settings, first_offsets={})
    uri = open_table(settings, "replay").uri
    plain = pa.schema(DeltaTable(uri).schema().to_arrow())
    entry = plain.field("outcomes").type.value_type
    longer = pa.list_(pa.field("element", pa.struct([*entry, pa.field("later", pa.int64())])))
    fields = [pa.field("outcomes", longer) if f.name == "outcomes" else f for f in plain]
    schema = pa.schema([*fields, pa.field("later", pa.string())])
    write_deltalake(DeltaTable(uri), schema.empty_table(), mode="append", schema_mode="merge")
    topic = settings.topic("decisions")
    decoder = Decoder({APPLICATION.name: APPLICATION}, topic)
    ids = [uuid7(), uuid7()]
    at_ms = uuid7_hour(ids[0]) * 3_600_000
    rows = []
    for offset, decision_id in enumerate(ids):
        pair = (
            Record(topic, 0, offset, at_ms, b"k", json.dumps(decision(decision_id)).encode()),
            Record("o", 0, offset, at_ms, b"k", json.dumps(outcome(decision_id)).encode()),
        )
        ((_, row),) = decoder.pair(*pair)[0].items()
        rows.append(row)
    later = rows[0] | {"later": "x"}
    later["outcomes"] = [one | {"later": 7} for one in later["outcomes"]]
    write_deltalake(uri, pa.Table.from_pylist([later], schema=schema), mode="append")
    table = open_table(settings, "replay")
    table.append(pa.Table.from_pylist([rows[1]], schema=table.schema))
    ((place, files),) = by_partition(table.files()).items()
    compact(spark, table, place, files, now_ms=1)
    found = DeltaTable(uri).to_pyarrow_table().to_pylist()
    assert {row["decision_id"]: row["later"] for row in found} == {ids[0]: "x", ids[1]: None}
    assert {row["decision_id"]: row["outcomes"][0]["later"] for row in found} == {
        ids[0]: 7,
        ids[1]: None,
    }
    assert len(all_rows(settings, "replay")) == 2
