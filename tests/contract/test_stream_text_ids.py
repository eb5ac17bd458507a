"""Ids that are no UUIDv7: a decision, what came of it, and a retry of it, each in another hour.

The broker's times are set here as events are sent, hours apart; all else is as it runs.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from bakehouse.local.topics import admin
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.settings import Settings
from bakehouse_serving.explain.tables import Tables
from bakehouse_stream.rebuild import rebuild
from bakehouse_stream.tables.running_account import RunningAccount, by_partition
from bakehouse_stream.tables.tables import open_table
from bakehouse_stream.upkeep.compaction import compact
from tests.stream_events import (
    APPLICATION,
    GAME,
    decision,
    expected_replay,
    folded,
    outcome,
    publish,
)
from tests.stream_tables import folded_table, repair_of, replay_rows, streaming, work_off

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

SettingsOf = Callable[[str], Settings]
HOUR_MS = 3_600_000
START_MS = (time.time_ns() // 1_000_000 // HOUR_MS - 5) * HOUR_MS + 3_550_000  # 50 s to the hour
V4 = "5f0c1e0e-7f2b-4d55-9a2e-2f3d1f0a9c11"
LONGEST, EMOJI, SPACES = "é" * 64, "🎲" * 32, " two words "
TEXT_IDS = [V4, LONGEST, EMOJI, SPACES, "01A204A1-9C69-7000-8493-0A2AE2FAB7A9"]


@pytest.fixture
def settings(settings_of: SettingsOf, request: pytest.FixtureRequest) -> Settings:
    """Of topics that take a record's time from who sends it."""
    found = settings_of(request.node.name[5:40])
    theirs = {"message.timestamp.type": "CreateTime"}
    with admin(found) as client:
        client.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, found.topic(name), theirs)
                for name in ("decisions", "outcomes")
            ]
        )
    return found


def at(hour: int) -> int:
    return START_MS + hour * HOUR_MS


@contextmanager
def worked_off(spark: SparkSession, settings: Settings) -> Iterator[Any]:
    with streaming(spark, settings) as query:
        work_off(query, settings)
        yield query


def hours(settings: Settings, tables: str | None = None) -> dict[str, set[int]]:
    """Of every id, over replay and the ledger, less that in which the test began."""
    where = settings.model_copy(update={"tables_uri": tables}) if tables else settings
    found: dict[str, set[int]] = {}
    for name in ("replay", "outcomes"):
        table = open_table(where, name)
        rows = table.read(table.files(), ["decision_id", "hour"])
        for decision_id, hour in zip(*(c.to_pylist() for c in rows.columns), strict=True):
            found.setdefault(decision_id, set()).add(hour - START_MS // HOUR_MS)
    return found


def test_what_comes_in_later_hours_joins_its_decision_in_the_first(
    spark: SparkSession, settings: Settings, tmp_path: Path
) -> None:
    mine, early = uuid7(at(0)), "early-bird"
    said = {"decided_at_ms": at(0)}
    first = [decision(one, **said) for one in [*TEXT_IDS, mine]]
    publish(settings, "decisions", first, at_ms=at(0))
    publish(settings, "outcomes", [outcome(early, "first")], at_ms=at(0))
    with worked_off(spark, settings):
        assert repair_of(spark, settings).step() == 0
    later = [outcome(one, "later", occurred_at_ms=at(0) + 1) for one in [*TEXT_IDS, mine]]
    publish(settings, "outcomes", later, at_ms=at(1))
    publish(settings, "decisions", [decision(early, **said)], at_ms=at(1))
    with worked_off(spark, settings):
        pass
    shutil.rmtree(settings.home / "stream" / "text_ids")  # the tables know all that it said
    publish(
        settings,
        "decisions",
        [
            decision(V4, **said),  # a retry that was answered the same
            decision(LONGEST, propensity=0.25, **said),  # and one that drew again
            decision("successor", previous=EMOJI, decided_at_ms=at(2)),
        ],
        at_ms=at(2),
    )
    publish(settings, "outcomes", [outcome(V4, "again")], at_ms=at(2))
    with worked_off(spark, settings) as query:
        repair = repair_of(spark, settings)
        repair.step()
        assert repair.waiting == 0
        account = RunningAccount(settings, settings.home).settle(
            until=query.applied[0], stream_time_ms=at(2)
        )
    expected = expected_replay(settings)
    assert len(expected) == len(TEXT_IDS) + 3
    assert folded_table(settings) == expected
    assert {row["decision_id"] for row in expected.values() if row["contested"]} == {LONGEST}
    assert hours(settings) == {one: {0} for one in (*TEXT_IDS, mine, early)} | {"successor": {2}}
    assert account == {
        "received": 18,
        "applied": 8 + 8,
        "duplicate": 2,
        "pending": 0,
        "orphan": 0,
        "quarantined": 0,
    }

    # folded into one file an hour it says the same, and a later copy still finds its place
    for name in ("replay", "outcomes"):
        table = open_table(settings, name)
        for place, files in by_partition(table.files()).items():
            compact(spark, table, place, files, now_ms=1)
    assert len(replay_rows(settings)) == len(expected)
    assert folded(replay_rows(settings)) == expected
    publish(settings, "outcomes", [outcome(SPACES, "last")], at_ms=at(3))
    with worked_off(spark, settings):
        assert repair_of(spark, settings).step() == 1
    expected = expected_replay(settings)
    assert folded_table(settings) == expected

    # an explanation finds each by its id alone, with what came of it
    tables = Tables(settings.tables)
    for (application, decision_id), row in expected.items():
        found = tables.find(application, decision_id)
        assert found is not None
        assert [one["outcome_id"] for one in found.outcomes] == [
            one["outcome_id"] for one in row["outcomes"]
        ]
        assert not found.waiting
    assert tables.find(APPLICATION.name, "nobody's") is None

    # and what is built from Kafka alone lies in the same hours
    rebuilt = str(tmp_path / "rebuilt")
    rebuild(spark, settings, [GAME], into=rebuilt)
    assert folded_table(settings, rebuilt) == expected
    assert hours(settings, rebuilt) == hours(settings)
    again = Tables(rebuilt)
    assert all(again.find(*key) is not None for key in expected)


def test_statistics_of_long_ids_leave_out_no_file_that_holds_one(
    spark: SparkSession, settings: Settings, tmp_path: Path
) -> None:
    """Whoever wrote the file: the query, a compaction, or Spark from its workers."""
    ids: list[str] = []
    with streaming(spark, settings) as query:
        for hour, sign in enumerate(["z", "é", "\U0010ffff"]):  # each in files of its own
            stem = sign * (126 // len(sign.encode()))
            long = [stem + tail for tail in ("a1", "b2", "c3")]
            publish(settings, "decisions", [decision(one) for one in long], at_ms=at(hour))
            publish(settings, "outcomes", [outcome(one, "o") for one in long], at_ms=at(hour))
            ids += long
        work_off(query, settings)
        repair_of(spark, settings).step()
    rebuilt = str(tmp_path / "rebuilt")
    rebuild(spark, settings, [GAME], into=rebuilt)

    def all_found(where: str) -> None:
        for name in ("replay", "outcomes"):
            table = open_table(settings.model_copy(update={"tables_uri": where}), name)
            _, logged = table.added_since(0)
            for file in (*table.files(), *logged):
                held = table.read([file], ["decision_id"]).column("decision_id").to_pylist()
                assert all(file.may_hold([one]) for one in held)
        for one in ids:
            found = Tables(where).find(APPLICATION.name, one)
            assert found is not None and len(found.outcomes) == 1

    all_found(settings.tables)
    all_found(rebuilt)
    for name in ("replay", "outcomes"):
        table = open_table(settings, name)
        for place, files in by_partition(table.files()).items():
            compact(spark, table, place, files, now_ms=1)
    all_found(settings.tables)
