"""Games that write in transactions: what was aborted, or is still open, never happened."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from kafka import KafkaProducer

from bakehouse_learner.online.kafka_bus import KafkaBus
from bakehouse_schemas.events.events import PolicyPointer, Progress
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.replay.account import OUTCOMES, unaccounted
from bakehouse_stream.kafka.broker import Broker
from bakehouse_stream.kafka.checkpoints import Checkpoint
from bakehouse_stream.kafka.stream_time import reaches
from bakehouse_stream.rebuild import rebuild
from bakehouse_stream.tables.running_account import RunningAccount
from bakehouse_stream.tables.tables import DataFile, Table, open_table
from tests.stream_events import GAME, decision, expected_replay, outcome, publish
from tests.stream_tables import folded_table, repair_of, replay_rows, streaming, work_off
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from bakehouse_stream.queries.query import ReplayQuery

SettingsOf = Callable[[str], Settings]


def ended(**terms: int) -> dict[str, int]:
    """An account that adds up, of which the rest is 0."""
    return {"received": sum(terms.values()), **dict.fromkeys(OUTCOMES, 0), **terms}


def account_of(query: ReplayQuery, settings: Settings) -> dict[str, int]:
    until, no_record = query.consumed
    running = RunningAccount(settings, settings.home)
    return running.settle(until=until, stream_time_ms=0, no_record=no_record)


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
        repair_of(spark, settings).step()
        # of each topic: two aborted records, the end of either transaction
        assert account_of(query, settings) == ended(applied=2, no_record=8)
        assert stands_in(settings, "replay") == {"committed"}
        assert stands_in(settings, "outcomes") == {"committed-won"}
        assert stands_in(settings, "quarantine") == set()
        assert folded_table(settings) == expected_replay(settings)
    rebuild(spark, settings, [GAME], into=str(tmp_path / "rebuilt"))
    assert stands_in(settings, "replay", tmp_path / "rebuilt") == {"committed"}
    assert stands_in(settings, "outcomes", tmp_path / "rebuilt") == {"committed-won"}
    assert stands_in(settings, "quarantine", tmp_path / "rebuilt") == set()


@pytest.mark.full
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


@pytest.mark.full
def test_positions_without_a_record_are_counted_once_whatever_is_read_again(
    spark: SparkSession, settings_of: SettingsOf, tmp_path: Path
) -> None:
    settings = settings_of("again")
    with transactions(settings, "game again") as producer:
        producer.begin_transaction()
        write_loop(producer, settings, "first")
        producer.commit_transaction()
        with streaming(spark, settings) as query:
            work_off(query, settings)
            repair_of(spark, settings).step()
            assert account_of(query, settings) == ended(applied=2, no_record=2)
        before = tmp_path / "before"
        shutil.copytree(Checkpoint(settings.home, "test").path, before)
        producer.begin_transaction()
        write_loop(producer, settings, "aborted")
        producer.abort_transaction()
        publish(settings, "outcomes", [outcome(uuid7(), "nobody's")])
        everything = ended(applied=2, pending=1, no_record=6)
        with streaming(spark, settings) as query:
            work_off(query, settings)
            assert account_of(query, settings) == everything
    # an old checkpoint is put back: its batches are read again
    path = Checkpoint(settings.home, "test").path
    shutil.rmtree(path)
    shutil.copytree(before, path)
    with streaming(spark, settings) as query:
        wait_until(lambda: query.counts.batches > 0, "what was read before is read again")
        assert account_of(query, settings) == everything
    # the checkpoint is lost, and nothing comes
    Checkpoint(settings.home, "test").renew()
    with streaming(spark, settings) as query:
        publish(settings, "outcomes", [outcome(uuid7(), "nobody's either")])
        work_off(query, settings)
        assert account_of(query, settings) == ended(applied=2, pending=2, no_record=6)
        # a row that is missing is missing, and is no position without a record
        ledger = open_table(settings, "outcomes")
        gone = [f for f in ledger.files() if "nobody's either" in ids_in(ledger, f)]
        ledger.drop(gone, now_ms=1)
        assert unaccounted(account_of(query, settings)) == 1


def ids_in(ledger: Table, file: DataFile) -> list[str]:
    found: list[str] = ledger.read([file], ["outcome_id"]).column("outcome_id").to_pylist()
    return found


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
