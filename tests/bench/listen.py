"""Hears what the parts say on Kafka, with the broker's times."""

from __future__ import annotations

import json
import threading
from typing import Any, NamedTuple, Self

from kafka import KafkaConsumer, TopicPartition

from bakehouse_schemas.process.settings import Settings


class Heard(NamedTuple):
    """A record."""

    at_ms: int  # the broker's time
    key: str
    value: dict[str, Any]


class Listener(threading.Thread):
    """Everything on `policies`, `status` and `progress` from its start on."""

    TOPICS = ("policies", "status", "progress")

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="listener", daemon=True)
        self._settings = settings
        self._stopping = threading.Event()
        self.heard: dict[str, list[Heard]] = {topic: [] for topic in self.TOPICS}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.join(5)

    def run(self) -> None:
        consumer = KafkaConsumer(
            **self._settings.kafka_reader(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        names = {self._settings.topic(topic): topic for topic in self.TOPICS}
        consumer.assign([TopicPartition(name, 0) for name in names])
        consumer.seek_to_beginning()
        while not self._stopping.is_set():
            for partition, records in consumer.poll(timeout_ms=1000).items():
                self.heard[names[partition.topic]] += [
                    Heard(record.timestamp, (record.key or b"").decode(), json.loads(record.value))
                    for record in records
                    if record.value is not None
                ]
        consumer.close()

    def between(self, topic: str, from_s: float, to_s: float) -> list[Heard]:
        """Records of a stretch of time; seconds since 1970."""
        return [r for r in list(self.heard[topic]) if from_s * 1000 <= r.at_ms <= to_s * 1000]

    def statuses(self, part: str, from_s: float, to_s: float) -> list[dict[str, Any]]:
        """`status.v1` of one part in a stretch of time."""
        found = self.between("status", from_s, to_s)
        return [record.value for record in found if record.value.get("part") == part]

    @property
    def stream_time_ms(self) -> int:
        """Latest stream time; 0: none yet."""
        progress = self.heard["progress"]
        return int(progress[-1].value["stream_time_ms"]) if progress else 0
