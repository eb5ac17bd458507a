"""The embedded broker is real, resumes on its data, and runs on the packaged JRE."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from bakehouse.local.broker import Broker
from bakehouse.local.jars import Jars, ensure_jars
from bakehouse.local.java import Java, find_java
from bakehouse.local.part import last_lines
from bakehouse.local.ports import keep_ports
from bakehouse.local.topics import admin, ensure_topics, topics
from bakehouse_schemas.errors import StackError
from bakehouse_schemas.process.settings import Settings

PATIENCE_S = 60.0
NOW_MS = 1_000  # of a client whose clock is wrong by half a century


@pytest.fixture(scope="module")
def jars() -> Jars:
    return ensure_jars()


@pytest.fixture(scope="module")
def packaged_java() -> Java:
    """What a machine without any Java of its own would run."""
    found = find_java({"HOME": str(Path.home()), "PATH": ""})
    assert found.packaged
    return found


def broker_in(folder: Path, java: Java, jars: Jars) -> Broker:
    ports = keep_ports(folder / "ports.json", ["broker", "controller"])
    return Broker(
        folder=folder,
        java=java,
        jars=jars.kafka,
        port=ports["broker"],
        controller_port=ports["controller"],
        settings=Settings(kafka_bootstrap=f"127.0.0.1:{ports['broker']}"),
    )


@contextmanager
def running(broker: Broker) -> Iterator[Settings]:
    broker.prepare()
    log = broker.folder / "broker.log"
    with (
        log.open("ab") as output,
        subprocess.Popen(broker.command(), stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not broker.answers():
                assert process.poll() is None, last_lines(log)
                assert time.monotonic() < deadline, last_lines(log)
                time.sleep(0.02)
            yield broker.settings
        finally:
            process.terminate()
            assert process.wait(PATIENCE_S) == 143  # SIGTERM, after an orderly shutdown


def test_records_survive_a_restart_on_other_ports_and_carry_the_brokers_time(
    tmp_path: Path, packaged_java: Java, jars: Jars
) -> None:
    with running(broker_in(tmp_path, packaged_java, jars)) as settings:
        assert ensure_topics(settings, adjust=True) == sorted(topics(settings))
        assert ensure_topics(settings, adjust=True) == []  # twice is once
        before_ms = int(time.time() * 1000)
        producer = KafkaProducer(**settings.kafka_client())
        sent = producer.send(settings.topic("decisions"), b"kept", timestamp_ms=NOW_MS)
        acknowledged = sent.get(PATIENCE_S)
        producer.close()
        assert acknowledged.timestamp >= before_ms - 1000

    (tmp_path / "ports.json").unlink()  # the old ones are somebody else's now
    with running(broker_in(tmp_path, packaged_java, jars)) as settings:
        consumer = KafkaConsumer(**settings.kafka_reader(), auto_offset_reset="earliest")
        consumer.assign([TopicPartition(settings.topic("decisions"), 0)])
        record = next(iter(consumer))
        consumer.close()
        assert (record.value, record.timestamp) == (b"kept", acknowledged.timestamp)

        with admin(settings) as client:
            client.create_topics(
                {"other.decisions.v1": {"configs": {"message.timestamp.type": "CreateTime"}}}
            )
        with pytest.raises(StackError, match=r"other\.decisions\.v1 has .*CreateTime"):
            ensure_topics(settings.model_copy(update={"topic_prefix": "other"}))


def test_topics_keep_what_the_settings_say_and_the_last_progress_for_ever() -> None:
    settings = Settings(kafka_retention_hours=2, topic_partitions=3, topic_prefix="game")
    described = topics(settings)
    assert described["game.decisions.v1"]["num_partitions"] == 3
    assert described["game.outcomes.v1"]["configs"]["retention.ms"] == str(2 * 3_600_000)
    assert described["game.policies.v1"]["configs"]["cleanup.policy"] == "compact"
    assert described["game.status.v1"]["configs"]["cleanup.policy"] == "compact"
    assert described["game.progress.v1"]["configs"]["retention.ms"] == "-1"
    assert {t["configs"]["message.timestamp.type"] for t in described.values()} == {"LogAppendTime"}


def test_a_kafka_that_is_not_there_is_named() -> None:
    with pytest.raises(StackError, match=r"127\.0\.0\.1:1\. Nothing was changed"):
        ensure_topics(Settings(kafka_bootstrap="127.0.0.1:1"))
