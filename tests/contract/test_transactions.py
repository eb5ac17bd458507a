"""Games that write in transactions: what was aborted, or is still open, never happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from kafka import KafkaProducer

from learner.control import KafkaBus
from schemas.events import PolicyPointer, Progress
from schemas.ids import uuid7
from schemas.settings import Settings
from stream.broker import Broker
from stream.rebuild import rebuild
from stream.stream_time import reaches
from stream.tables import open_table
from tests.stream_events import GAME, decision, expected_replay, outcome, publish
from tests.stream_tables import folded_table, replay_rows, streaming, work_off
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from stream.query import ReplayQuery

SettingsOf = Callable[[str], Settings]


@contextmanager
def transactions(settings: Settings, name: str) -> Iterator[KafkaProducer]:
    """A producer that writes in transactions, as exactly-once games do."""
    with closing(KafkaProducer(**settings.kafka_client(), transactional_id=name)) as producer:
        producer.init_transactions()
        yield producer


def write(producer: KafkaProducer, settings: Settings, topic: str, *events: dict[str, Any]) -> None:
    """Within a transaction, until the broker has them."""
    for event in events:
        producer.send(settings.topic(topic), key=b"k", value=orjson.dumps(event))
    producer.flush()


def write_loop(producer: KafkaProducer, settings: Settings, who: str) -> str:
    """A decision and its outcome; the decision's id."""
    one = decision(subject_id=who)
    write(producer, settings, "decisions", one)
    write(producer, settings, "outcomes", outcome(one["decision_id"], f"{who}-won"))
    return str(one["decision_id"])


def write_poison(producer: KafkaProducer, settings: Settings) -> None:
    for topic in ("decisions", "outcomes"):
        producer.send(settings.topic(topic), key=b"k", value=b"poison")
    producer.flush()


def stands_in(settings: Settings, name: str, tables: Path | None = None) -> set[str]:
    """Subjects of decisions, or ids of outcomes, or values set aside, that a table holds."""
    column = {"replay": "subject_id", "outcomes": "outcome_id", "quarantine": "value"}[name]
    where = settings.model_copy(update={"tables_uri": str(tables)}) if tables else settings
    table = open_table(where, name)
    return set(table.read(table.files(), [column]).column(column).to_pylist())


def test_what_was_aborted_is_in_no_table_and_what_was_committed_is_in_them_all(
    spark: SparkSession, settings_of: SettingsOf, tmp_path: Path
) -> None:
    settings = settings_of("transactions")
    with transactions(settings, "game") as producer:
        producer.begin_transaction()
        write_loop(producer, settings, "aborted")
        write_poison(producer, settings)
        producer.abort_transaction()
        producer.begin_transaction()
        write_loop(producer, settings, "committed")
        producer.commit_transaction()
    with streaming(spark, settings) as query:
        work_off(query, settings)
        assert stands_in(settings, "replay") == {"committed"}
        assert stands_in(settings, "outcomes") == {"committed-won"}
        assert stands_in(settings, "quarantine") == set()
        assert folded_table(settings) == expected_replay(settings)
    rebuild(spark, settings, [GAME], into=str(tmp_path / "rebuilt"))
    assert stands_in(settings, "replay", tmp_path / "rebuilt") == {"committed"}
    assert stands_in(settings, "outcomes", tmp_path / "rebuilt") == {"committed-won"}
    assert stands_in(settings, "quarantine", tmp_path / "rebuilt") == set()


def test_stream_time_waits_for_an_open_transaction_and_passes_its_end(
    spark: SparkSession, settings_of: SettingsOf
) -> None:
    settings = settings_of("open")
    with (
        closing(Broker(settings)) as broker,
        transactions(settings, "slow game") as producer,
        streaming(spark, settings) as query,
    ):
        producer.begin_transaction()
        write_loop(producer, settings, "open")
        # what comes after it in the topics is not read before it has ended
        one = decision(subject_id="beside")
        publish(settings, "decisions", [one])
        publish(settings, "outcomes", [outcome(one["decision_id"], "beside-won")])
        ends = broker.ends()
        assert not reaches(query.applied[0], ends)
        assert [sum(of.values()) for of in ends.values()] == [2, 2]
        assert replay_rows(settings) == []
        producer.commit_transaction()
        work_off(query, settings)  # the markers that end it are positions too
        assert reaches(query.applied[0], broker.ends())
        assert stands_in(settings, "replay") == {"open", "beside"}
        assert stands_in(settings, "outcomes") == {"open-won", "beside-won"}
        nothing_but_markers(producer, settings, query)


def nothing_but_markers(producer: KafkaProducer, settings: Settings, query: ReplayQuery) -> None:
    """Time goes on where all that came was aborted."""
    before = query.applied[0]
    producer.begin_transaction()
    write_loop(producer, settings, "never")
    producer.abort_transaction()
    work_off(query, settings)
    assert query.applied[0] != before
    assert "never" not in stands_in(settings, "replay")


@pytest.mark.parametrize("end", ["abort", "commit"])
def test_the_learner_hears_of_committed_policies_and_of_the_last_committed_progress(
    settings_of: SettingsOf, end: str
) -> None:
    settings = settings_of(f"bus-{end}")
    with transactions(settings, f"bus-{end}") as producer, closing(Broker(settings)) as broker:
        publish_policy = PolicyPointer(application="game", version=7, published_at_ms=1)
        progress = Progress(stream_time_ms=9, replay_version=1, committed={}, applied_ms=1)
        broker.publish_progress(progress)
        producer.begin_transaction()
        producer.send(
            settings.topic("policies"), key=b"game", value=publish_policy.model_dump_json().encode()
        )
        producer.flush()
        getattr(producer, f"{end}_transaction")()
        bus = KafkaBus(settings, process=uuid7())
        bus.start()
        try:
            wait_until(bus.listening.is_set, "all that was published has been heard")
            assert (bus.pointer("game") is not None) == (end == "commit")
            assert bus.stream_time_ms(1) == 9
        finally:
            bus.stop()
        assert broker.last_progress() == progress
