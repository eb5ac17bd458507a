"""Whatever comes, however often, in whatever order: the folded table is what was sent.

Real Kafka, Spark and Delta. The oracle is a few lines of plain Python over the list of what was
sent; the query runs once for all examples, with a join that forgets within half a second, so that
an outcome published a little later is repair's.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bakehouse.local.topics import ensure_topics
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.replay.fold import fold_rows
from bakehouse_stream.kafka.checkpoints import Checkpoint
from bakehouse_stream.queries.query import ReplayQuery
from bakehouse_stream.rebuild import rebuild
from bakehouse_stream.tables.running_account import RunningAccount, by_partition
from bakehouse_stream.tables.tables import open_table
from bakehouse_stream.upkeep.compaction import compact
from bakehouse_stream.upkeep.repair import Repair
from tests.faults import oracle
from tests.faults.ids import game_id
from tests.faults.oracle import Experience, Sent
from tests.stream_events import APPLICATION, GAME, decision, outcome, publish, records
from tests.stream_tables import folded_table, repair_of, replay_rows, streaming, work_off
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

RETENTION_MINUTES = 0.5 / 60


class Running(NamedTuple):
    """The query that all examples share, and what repairs its tables."""

    settings: Settings
    spark: SparkSession
    query: ReplayQuery
    repair: Repair

    def flush(self) -> None:
        work_off(self.query, self.settings)

    def compact(self) -> None:
        for name in ("replay", "outcomes"):
            table = open_table(self.settings, name)
            for place, files in by_partition(table.files()).items():
                if len(files) > 1:
                    compact(self.spark, table, place, files, now_ms=1)

    def append_again(self, chooser: random.Random) -> None:
        """What a batch appended to the tables, once more, as a batch that is run again does."""
        for name in ("replay", "outcomes", "quarantine"):
            table = open_table(self.settings, name)
            files = table.files()
            if files:
                table.append(table.read([chooser.choice(files)], table.schema.names))


@pytest.fixture(scope="module")
def running(
    kafka: str, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    made = Settings(
        home=tmp_path_factory.mktemp("once"),
        kafka_bootstrap=kafka,
        topic_prefix="once",
        join_retention_minutes=RETENTION_MINUTES,
    )
    ensure_topics(made)
    with streaming(spark, made) as query:
        yield Running(made, spark, query, repair_of(spark, made))


def sent(made: Settings, *, ids: set[str] | None = None) -> list[Sent]:
    """What the topics hold, of these decisions."""
    found = []
    for record in records(made):
        try:
            event = orjson.loads(record.value or b"")
        except orjson.JSONDecodeError:
            event = None
        position = (record.received_at_ms, record.topic, record.partition, record.offset)
        if ids is None or (event is not None and event["decision_id"] in ids):
            found.append(Sent(*position, event))
    return found


def expected(made: Settings, ids: set[str] | None = None) -> dict[tuple[str, str], Experience]:
    return oracle.folded(sent(made, ids=ids), decisions=made.topic("decisions"))


def in_tables(made: Settings, ids: set[str]) -> dict[tuple[str, str], Experience]:
    rows = [row for row in replay_rows(made) if row["decision_id"] in ids]
    return {key: oracle.experience_of(row) for key, row in fold_rows(rows).items()}


def last_batch(folder: Path) -> int:
    """The newest batch of one of Spark's own logs."""
    return max(int(path.name) for path in folder.iterdir() if path.name.isdigit())


# Before the others: one session runs one query of this name at a time.
def test_a_batch_that_spark_runs_again_changes_nothing(
    spark: SparkSession, kafka: str, tmp_path: Path
) -> None:
    made = Settings(home=tmp_path, kafka_bootstrap=kafka, topic_prefix="again")
    ensure_topics(made)
    ids = [game_id() for _ in range(30)]
    with streaming(spark, made) as query:
        publish(made, "decisions", [decision(one) for one in ids])
        work_off(query, made)
        publish(made, "outcomes", [outcome(one) for one in ids])
        work_off(query, made)
        checkpoint = Checkpoint(made.home, "test").path
        # ours are applied before Spark has noted the batch, and a stop may come between
        wait_until(
            lambda: last_batch(checkpoint / "commits") == last_batch(checkpoint / "offsets"),
            "Spark has noted the last batch as done",
        )
    before, rows = folded_table(made), len(replay_rows(made))
    # Spark notes a batch as done by a file; without it, it cannot know that the rows are there
    commits = checkpoint / "commits"
    (commits / str(last_batch(commits))).unlink()
    with streaming(spark, made) as query:
        publish(made, "decisions", [decision()])
        work_off(query, made)
        assert query.counts.batches >= 2
    assert len(replay_rows(made)) > rows + 1, "the batch was not run again"
    after = folded_table(made)
    assert {key: after[key] for key in before} == before
    assert len(after) == len(before) + 1


# An event by number, a variant of what it says, and what is done after it.
Step = tuple[str, int, int, str]
steps = st.lists(
    st.tuples(
        st.sampled_from(["decision", "outcome", "outcome"]),
        st.integers(0, 5),
        st.integers(0, 1),
        st.sampled_from([""] * 7 + ["flush", "repair", "compact", "again"]),
    ),
    min_size=1,
    max_size=24,
)


def event_of(step: Step, ids: list[str]) -> tuple[str, dict[str, Any]]:
    """Topic and record. The last decision is never sent: its outcomes wait for ever."""
    kind, number, variant, _ = step
    if kind == "decision":
        number %= len(ids) - 1
        follows = ids[number - 1] if number % 2 else None
        return "decisions", decision(
            ids[number],
            previous=follows,
            decided_at_ms=1_000,  # copies say the same but for the variant
            propensity=(0.75, 0.25)[variant],
        )
    return "outcomes", outcome(
        ids[number % len(ids)],
        f"{ids[0][-36:]}-{number}",
        value=(1.0, -2.5)[variant],
        occurred_at_ms=2_000,
    )


@pytest.mark.full
@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # a smaller example would cost minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=steps, seed=st.integers(0, 1 << 30))
def test_the_folded_table_equals_the_oracle_for_any_order_repetition_lateness_and_upkeep(
    running: Running, steps: list[Step], seed: int
) -> None:
    made, chooser = running.settings, random.Random(seed)
    ids = [game_id() for _ in range(5)]
    for step in steps:
        topic, event = event_of(step, ids)
        publish(made, topic, [event])
        match step[3]:
            case "flush":
                running.flush()
            case "repair":
                running.flush()
                running.repair.step()
            case "compact":
                running.compact()
            case "again":
                running.append_again(chooser)
    running.flush()
    running.repair.step()
    assert in_tables(made, set(ids)) == expected(made, set(ids))

    # once more, all of it: nothing changes
    running.append_again(chooser)
    running.repair.step()
    running.compact()
    assert in_tables(made, set(ids)) == expected(made, set(ids))
    account = RunningAccount(made, made.home).settle(
        until=running.query.applied[0], stream_time_ms=0
    )
    wanted = oracle.account(sent(made), decisions=made.topic("decisions"))
    assert account["pending"] == wanted["waiting"]
    assert {name: account[name] for name in wanted if name in account} == {
        name: n for name, n in wanted.items() if name != "waiting"
    }


@pytest.mark.full
def test_a_table_that_is_built_from_kafka_equals_the_one_that_grew(
    running: Running, tmp_path: Path
) -> None:
    running.flush()
    running.repair.step()
    rebuild(running.spark, running.settings, [GAME], into=str(tmp_path / "rebuilt"))
    grown = folded_table(running.settings)
    assert folded_table(running.settings, str(tmp_path / "rebuilt")) == grown
    assert {key: oracle.experience_of(row) for key, row in grown.items()} == expected(
        running.settings
    )


@pytest.mark.full
def test_the_account_fails_to_add_up_when_a_row_is_removed_by_hand(
    running: Running, tmp_path: Path
) -> None:
    running.flush()
    running.repair.step()
    copy = running.settings.model_copy(update={"tables_uri": str(tmp_path / "tables")})
    until = running.query.applied[0]

    def unaccounted() -> int:
        account = RunningAccount(copy, tmp_path).settle(until=until, stream_time_ms=0)
        return account["received"] - sum(n for name, n in account.items() if name != "received")

    for name in ("replay", "outcomes", "quarantine"):
        shutil.rmtree(tmp_path / "tables", ignore_errors=True)
        shutil.copytree(running.settings.tables, tmp_path / "tables")
        publish_once = open_table(copy, name).files()
        if name == "quarantine" and not publish_once:
            continue
        assert unaccounted() == 0
        table = open_table(copy, name)
        found = table.files()[0]
        kept = table.read([found], table.schema.names).slice(1)
        table.drop([found], now_ms=1)
        table.append(kept)
        assert unaccounted() != 0, f"a row of {name} is gone and nobody notices"


def test_the_oracle_is_worked_out_by_hand() -> None:
    says = {"application": "a", "contract": "c", "context": {}, "action": "x", "propensity": 0.5}
    first = says | {"decision_id": "1", "decided_at_ms": 5}
    follower = says | {"decision_id": "2", "decided_at_ms": 9, "previous_decision_id": "1"}
    won = {"application": "a", "decision_id": "1", "outcome_id": "o", "value": 1.0}
    every = [
        Sent(30, "outcomes", 0, 1, won | {"value": 2.0}),
        Sent(20, "outcomes", 0, 0, won),
        Sent(20, "decisions", 0, 1, first | {"action": "y"}),
        Sent(10, "decisions", 0, 0, first),
        Sent(40, "decisions", 0, 2, follower),
        Sent(50, "outcomes", 0, 2, won | {"decision_id": "nobody's"}),
        Sent(60, "outcomes", 0, 3, None),
    ]
    found = oracle.folded(every, decisions="decisions")
    assert found.keys() == {("a", "1"), ("a", "2")}
    one = found["a", "1"]
    assert orjson.loads(one.says)["action"] == "x"
    assert one.contested
    assert not found["a", "2"].contested
    assert one.outcomes.keys() == {"o", "next:2"}
    assert orjson.loads(one.outcomes["o"].says)["value"] == 1.0
    assert one.outcomes["o"].positions == {(20, "outcomes", 0, 0), (30, "outcomes", 0, 1)}
    assert oracle.account(every, decisions="decisions") == {
        "received": 7,
        "applied": 3,
        "duplicate": 2,
        "waiting": 1,
        "quarantined": 1,
    }


assert APPLICATION.name == "small-game"
