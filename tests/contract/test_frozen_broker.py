"""A broker that stops answering for a while, without closing a connection, and then goes on."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.errors import KafkaError

from bakehouse.local.jars import Jars
from bakehouse.local.java import Java
from bakehouse.local.topics import ensure_topics
from bakehouse_learner.online.kafka_bus import KafkaBus
from bakehouse_schemas.events.events import PolicyPointer, Progress
from bakehouse_schemas.process.settings import Settings
from bakehouse_stream.kafka.broker import Broker
from tests.conftest import running_broker
from tests.waiting import wait_until

pytestmark = pytest.mark.full


def test_stream_and_learner_tell_again_once_a_frozen_broker_goes_on(
    tmp_path: Path, java: Java, all_jars: Jars
) -> None:
    with running_broker(tmp_path, java, all_jars) as (address, process):
        settings = Settings(home=tmp_path, kafka_bootstrap=address)
        ensure_topics(settings)
        stream, learner = Broker(settings), KafkaBus(settings, process="1")
        heard = KafkaBus(settings, process="2")
        heard.start()
        progress = Progress(stream_time_ms=1, replay_version=1, committed={}, applied_ms=1)

        def told() -> bool:
            try:
                stream.publish_progress(progress)
            except KafkaError:
                return False
            return True

        def pointed(version: int) -> None:
            learner.publish(PolicyPointer(application="game", version=version, published_at_ms=1))

        try:
            assert told()
            pointed(1)
            wait_until(lambda: heard.pointer("game") is not None, "the first policy is heard")
            process.send_signal(signal.SIGSTOP)
            try:
                pointed(2)
                failed = [told() for _ in range(3)]  # each waits 5 s; a record lives for 10
            finally:
                process.send_signal(signal.SIGCONT)
            assert failed == [False] * 3
            wait_until(told, "stream's progress is taken again", patience_s=30.0)

            def second_is_heard() -> bool:
                learner.retry()
                pointer = heard.pointer("game")
                return pointer is not None and pointer.version == 2

            wait_until(second_is_heard, "the second policy is heard", patience_s=60.0)
        finally:
            learner.stop()
            heard.stop()
            stream.close()


def test_what_is_told_keeps_its_order(kafka: str) -> None:
    arguments = Settings(kafka_bootstrap=kafka).kafka_teller()
    with closing(KafkaProducer(**arguments)) as producer:
        assert producer.config["acks"] in (-1, "all")
        assert producer.config["max_in_flight_requests_per_connection"] == 1
