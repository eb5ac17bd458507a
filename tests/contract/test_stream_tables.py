"""From real Kafka through real Spark into real Delta: the folded table is what was sent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bakehouse.local.jars import Jars
from bakehouse.local.java import Java
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.process.tracing import JOIN
from bakehouse_stream.kafka.checkpoints import Checkpoint
from bakehouse_stream.rebuild import rebuild
from bakehouse_stream.tables.running_account import RunningAccount, by_partition
from bakehouse_stream.tables.tables import open_table
from bakehouse_stream.upkeep.compaction import compact
from tests.collector import Kept
from tests.stream_events import GAME, decision, expected_replay, folded, outcome, publish
from tests.stream_tables import folded_table, repair_of, replay_rows, streaming, work_off
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LATER_MS = 4_000_000_000_000  # long after anything here was received
SettingsOf = Callable[[str], Settings]


def publish_everything(settings: Settings) -> None:
    """Decisions and outcomes in every order, twice, unmatched, and poisoned in every way."""
    first, second, late, again = uuid7(), uuid7(), uuid7(), uuid7()
    publish(settings, "outcomes", [outcome(late, "early-bird")])  # before its decision
    publish(settings, "decisions", [decision(first), decision(late)])
    publish(
        settings,
        "decisions",
        [
            decision(second, previous=first),
            decision(again),
            decision(again, propensity=0.25),  # drawn twice: contested
        ],
    )
    publish(
        settings,
        "outcomes",
        [
            outcome(first, "a"),
            outcome(first, "a", value=2.0),  # the same fact again, told differently
            outcome(first, "b", kind="end", name=None, value=None),
            outcome(second, "c", payload={"z": 1, "a": [1.5, None]}),
            outcome(again, "d"),
            outcome(uuid7(), "nobody's"),
        ],
    )
    publish(settings, "decisions", POISON_DECISIONS)
    publish(settings, "outcomes", poison_outcomes(first))


POISON_DECISIONS: list[dict[str, Any] | bytes | None] = [
    None,
    b"\xff\xfe",
    b"not json",
    b"[1, 2]",
    b'{"schema": "decision.v1", "propensity": NaN}',
    decision(propensity=0.0),
    decision(action="impossible"),
    decision(observation=[0.5, 0.5]),
    decision(observation=[1e39]),  # beyond float32
    decision(context={}, observation=None),
    decision("no id\n"),
    decision("é" * 65),
    decision(uuid7(1_000)),  # an id of 1970
    decision(application="another"),
    decision(exploration={"kind": "fifo"}),
]


def poison_outcomes(decision_id: str) -> list[dict[str, Any] | bytes | None]:
    return [
        None,
        b"{",
        outcome(decision_id, value="high"),
        outcome(decision_id, name=None),
        outcome(decision_id, kind="executed", executed_action="impossible"),
        outcome(decision_id, "next:mine"),
        outcome(decision_id, occurred_at_ms=-1),
        outcome(decision_id, application="another"),
        b'{"value": 1e999}',
        b'{"a": 1, "a": 2}',
    ]


def test_the_folded_table_is_what_was_sent_and_every_position_is_accounted_for(
    spark: SparkSession, settings_of: SettingsOf, tmp_path: Path
) -> None:
    settings = settings_of("everything")
    publish_everything(settings)
    traced = Kept()
    with streaming(spark, settings, tracer=traced) as query:
        work_off(query, settings)
        repair = repair_of(spark, settings)
        repair.step()
        expected = expected_replay(settings)
        assert len(expected) == 4
        assert folded_table(settings) == expected
        assert [row["contested"] for row in expected.values()].count(True) == 1
        assert repair.waiting == 1  # nobody's
        joined = {(one.decision_id, one.key) for one in traced.named(JOIN)}
        assert {decision_id for decision_id, key in joined if not key} == {
            row["decision_id"] for row in expected.values()
        }
        assert {key for _, key in joined} >= {"a", "b", "c", "d"}
        assert all(0 < one.start_ns <= one.end_ns for one in traced.spans)

        running = RunningAccount(settings, settings.home)
        account = running.settle(until=query.applied[0], stream_time_ms=0)
        bad = len(POISON_DECISIONS) + len(poison_outcomes(""))
        assert account == {
            "received": 5 + 7 + bad,
            "applied": 4 + 5,
            "duplicate": 1 + 1,
            "pending": 1,
            "orphan": 0,
            "quarantined": bad,
        }
        a_day_later = RunningAccount(settings, settings.home).settle(
            until=query.applied[0], stream_time_ms=LATER_MS
        )
        assert (a_day_later["pending"], a_day_later["orphan"]) == (0, 1)

    # what is folded into one file says the same, to those that read all and those that tail
    replay, ledger = open_table(settings, "replay"), open_table(settings, "outcomes")
    before = replay.version
    for table in (replay, ledger):
        for place, files in by_partition(table.files()).items():
            compact(spark, table, place, files, now_ms=1)
    rows = replay_rows(settings)
    assert len(rows) == len(expected)
    assert folded(rows) == expected
    assert replay.added_since(before) == (before + 1, [])
    assert (
        RunningAccount(settings, settings.home).settle(until=query.applied[0], stream_time_ms=0)
        == account
    )

    # and so does what is built from Kafka alone
    rebuild(spark, settings, [GAME], into=str(tmp_path / "rebuilt"))
    assert folded_table(settings, str(tmp_path / "rebuilt")) == expected

    reasons = open_table(settings, "quarantine")
    quarantined = reasons.read(reasons.files(), ["topic", "offset", "reason"]).to_pylist()
    assert all(row["reason"] for row in quarantined)
    assert any("impossible" in row["reason"] for row in quarantined)


def test_a_lost_checkpoint_costs_nothing_because_repair_carries_the_gap(
    spark: SparkSession, settings_of: SettingsOf
) -> None:
    settings = settings_of("lost")
    ids = [uuid7() for _ in range(20)]
    publish(settings, "decisions", [decision(one) for one in ids])
    with streaming(spark, settings) as query:
        work_off(query, settings)
        repair_of(spark, settings).step()
    checkpoint = Checkpoint(settings.home, "test")
    applied = checkpoint.applied
    checkpoint.renew()
    assert Checkpoint(settings.home, "test").applied == applied

    publish(settings, "outcomes", [outcome(one) for one in ids])
    with streaming(spark, settings) as query:
        work_off(query, settings)
        # the join has forgotten the decisions, and they are not read again
        assert not any(row["outcomes"] for row in replay_rows(settings))
        repair = repair_of(spark, settings)
        assert repair.step() == len(ids)
        assert repair.step() == 0
        account = RunningAccount(settings, settings.home).settle(
            until=query.applied[0], stream_time_ms=0
        )
    assert folded_table(settings) == expected_replay(settings)
    assert account["applied"] == account["received"] == 2 * len(ids)


@pytest.mark.full
def test_a_clean_stop_works_off_what_is_there_and_leaves_an_account_that_adds_up(
    settings_of: SettingsOf, java: Java, all_jars: Jars
) -> None:
    settings = settings_of("stopped")
    ids = [uuid7() for _ in range(50)]
    environment = {
        **os.environ,
        **settings.as_environment(),
        "JAVA_HOME": str(java.home),
        "BAKEHOUSE_SPARK_JARS": ",".join(map(str, all_jars.spark)),
    }
    settings.home.mkdir(parents=True, exist_ok=True)
    said = settings.home / "stream.log"
    with said.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bakehouse_stream", GAME],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        phase = settings.home / "run" / "stream.json"
        wait_until(
            lambda: (
                process.poll() is not None
                or (phase.is_file() and json.loads(phase.read_text())["phase"] == "ready")
            ),
            "stream is ready",
        )
        publish(settings, "decisions", [decision(one) for one in ids])
        wait_until(lambda: len(folded_table(settings)) == len(ids), "the decisions are in replay")
        publish(settings, "outcomes", [outcome(one) for one in ids])
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0, said.read_text()
    finally:
        process.kill()
        process.wait()
    account = json.loads((settings.home / "stream" / "account.json").read_text())
    assert account["received"] == account["applied"] == 2 * len(ids)
    assert folded_table(settings) == expected_replay(settings)
