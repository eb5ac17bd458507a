"""Every codec that a broker may use is read by every part; one that cannot be read is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaProducer

from bakehouse.local.topics import admin, topics
from bakehouse_learner.online.kafka_bus import KafkaBus
from bakehouse_schemas.events.events import Control, Progress
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.settings import Settings
from bakehouse_serving.policies.subscriber import Subscriber
from bakehouse_stream.kafka.broker import Broker
from tests.stream_events import decision, expected_replay, outcome, publish
from tests.stream_tables import folded_table, streaming, work_off
from tests.unit.test_serving_http import Server
from tests.waiting import wait_until

pytestmark = pytest.mark.full

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CODECS = ["gzip", "snappy", "lz4", "zstd"]
KILL = Control(application="levels", killed=True, by="anna", why="rewards are wrong", at_ms=1)
PROGRESS = Progress(stream_time_ms=9, replay_version=1, committed={}, applied_ms=1)


@pytest.fixture
def settings_with(kafka: str, tmp_path: Path) -> Callable[[str], Settings]:
    """Settings whose topics keep everything in one codec, whatever producers send."""

    def make(codec: str) -> Settings:
        prefix = f"{codec}-{uuid7()}"
        settings = Settings(home=tmp_path / codec, kafka_bootstrap=kafka, topic_prefix=prefix)
        described = topics(settings)
        for one in described.values():
            one["configs"]["compression.type"] = codec
        with admin(settings) as client:
            client.create_topics(described)
        return settings

    return make


def tell(settings: Settings, topic: str, key: str, value: str) -> None:
    with closing(KafkaProducer(**settings.kafka_client())) as producer:
        producer.send(settings.topic(topic), key=key.encode(), value=value.encode()).get(30)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that is to stop does so at once, and not after ten seconds."""
    monkeypatch.setattr("bakehouse_serving.policies.subscriber.LISTENER_WAIT_MS", 200)


@contextmanager
def listening(settings: Settings, server: Server) -> Iterator[tuple[Subscriber, KafkaBus]]:
    """What serving and the learner hear with."""
    subscriber = Subscriber(settings, {"levels": server.served}, process="1")
    bus = KafkaBus(settings, process="1")
    subscriber.start()
    bus.start()
    try:
        yield subscriber, bus
    finally:
        subscriber.stop()
        bus.stop()
        subscriber.join(30)


@pytest.mark.parametrize("codec", CODECS)
def test_a_kill_and_stream_time_are_heard_in_every_codec(
    settings_with: Callable[[str], Settings], tmp_path: Path, codec: str
) -> None:
    settings, server = settings_with(codec), Server(tmp_path)
    with listening(settings, server) as (subscriber, bus), closing(Broker(settings)) as broker:
        wait_until(lambda: subscriber.listening and bus.listening.is_set(), "both listen")
        tell(settings, "policies", "levels/control", KILL.model_dump_json())
        broker.publish_progress(PROGRESS)
        wait_until(lambda: server.served.state()["killed"], "serving hears of the kill")
        wait_until(lambda: bus.control("levels") == KILL, "the learner hears of the kill")
        wait_until(lambda: bus.stream_time_ms(1) == 9, "the learner hears of stream time")
        assert broker.last_progress() == PROGRESS
        assert (subscriber.problem, bus.problem) == (None, None)


@pytest.mark.parametrize("codec", CODECS)
def test_events_are_read_in_every_codec(
    spark: SparkSession, settings_with: Callable[[str], Settings], codec: str
) -> None:
    settings = settings_with(codec)
    one = decision()
    publish(settings, "decisions", [one])
    publish(settings, "outcomes", [outcome(one["decision_id"], "won")])
    with streaming(spark, settings) as query:
        work_off(query, settings)
        assert folded_table(settings) == expected_replay(settings) != {}


@pytest.mark.parametrize(
    ("topic", "key", "value"),
    [
        ("policies", "levels/control", KILL.model_dump_json()),
        ("status", "learner/9", '{"part": "learner", "process": "9", "at_ms": 1}'),
    ],
)
def test_who_cannot_read_a_topic_says_so_until_it_can(
    settings_with: Callable[[str], Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    topic: str,
    key: str,
    value: str,
) -> None:
    settings, server = settings_with("zstd"), Server(tmp_path)
    with listening(settings, server) as (subscriber, bus):
        server.report._subscriber = subscriber
        listened: list[bool] = []  # whether it said that it does, at each failure
        trouble = subscriber._trouble

        def note(error: BaseException) -> None:
            listened.append(subscriber.listening)
            trouble(error)

        monkeypatch.setattr(subscriber, "_trouble", note)
        wait_until(lambda: subscriber.listening and bus.listening.is_set(), "both listen")
        with monkeypatch.context() as missing:
            missing.setattr("kafka.codec.zstd", None)  # as where the library is not installed
            tell(settings, topic, key, value)
            wait_until(lambda: len(listened) > 3, "serving has tried again")
            assert not any(listened[1:])
            told = server.request("GET", "/readyz").json()["kafka"]
            assert (told["listening"], "zstd" in told["problem"]) == (False, True)
            if topic == "policies":
                wait_until(lambda: not bus.listening.is_set(), "the learner says the same")
                assert "zstd" in (bus.problem or "")
        wait_until(lambda: subscriber.listening and bus.listening.is_set(), "both listen again")
        assert (subscriber.problem, bus.problem) == (None, None)
        assert server.served.state()["killed"] == (topic == "policies")
