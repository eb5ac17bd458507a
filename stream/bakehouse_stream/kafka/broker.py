"""What stream asks the broker itself: offsets, the time, and a place for progress and status."""

from __future__ import annotations

import json
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from bakehouse_schemas.events.events import Progress
from bakehouse_schemas.process.settings import Settings

ACK_TIMEOUT_S = 5.0
ASK_TIMEOUT_MS = 5_000  # a broker that is away holds nobody up for longer


class Broker:
    """A connection of the stream process; not for Spark, which has its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._progress = settings.topic("progress")
        self._status = settings.topic("status")
        self._topics = [settings.topic("decisions"), settings.topic("outcomes")]
        self._patience = {
            "bootstrap_timeout_ms": ASK_TIMEOUT_MS,
            "request_timeout_ms": ASK_TIMEOUT_MS,
        }
        # Reads nothing, it only asks for offsets: of records in open transactions too, which may
        # yet be committed, so that stream time waits for them.
        self._consumer = KafkaConsumer(
            **settings.kafka_client(), **self._patience, enable_auto_commit=False
        )
        self._producer = KafkaProducer(
            **settings.kafka_teller(),
            **self._patience,
            max_block_ms=ASK_TIMEOUT_MS,
            delivery_timeout_ms=2 * ASK_TIMEOUT_MS,
        )

    def beginnings(self) -> dict[str, dict[str, int]]:
        """First offset that each partition of both event topics still has."""
        return _by_topic(
            self._consumer.beginning_offsets(self._partitions(), timeout_ms=ASK_TIMEOUT_MS)
        )

    def ends(self) -> dict[str, dict[str, int]]:
        """Offset that the next record of each partition of both event topics will get.

        What a transaction that is still open has written lies before it, though nobody reads it.
        """
        return _by_topic(self._consumer.end_offsets(self._partitions(), timeout_ms=ASK_TIMEOUT_MS))

    def _partitions(self) -> list[TopicPartition]:
        return [
            TopicPartition(topic, partition)
            for topic in self._topics
            for partition in sorted(self._consumer.partitions_for_topic(topic) or ())
        ]

    def publish_progress(self, progress: Progress) -> int:
        """Append to `progress.v1`; returns the broker's time of it in milliseconds.

        Raises:
            kafka.errors.KafkaError: the broker does not acknowledge.
        """
        value = progress.model_dump_json().encode()
        sent = self._producer.send(self._progress, value=value)
        return int(sent.get(timeout=ACK_TIMEOUT_S).timestamp)

    def last_progress(self) -> Progress | None:
        """The newest record of `progress.v1`, None where there is none."""
        partition = TopicPartition(self._progress, 0)
        reader = KafkaConsumer(
            **self._settings.kafka_reader(), **self._patience, enable_auto_commit=False
        )
        try:
            end = reader.end_offsets([partition])[partition]
            begin = reader.beginning_offsets([partition])[partition]
            if end <= begin:
                return None
            reader.assign([partition])
            reader.seek(partition, end - 1)
            records = reader.poll(timeout_ms=int(ACK_TIMEOUT_S * 1000)).get(partition, [])
        finally:
            reader.close()
        return Progress.model_validate_json(records[-1].value) if records else None

    def publish_status(self, process: str, status: dict[str, Any]) -> None:
        """Append to `status.v1`; nobody waits for it."""
        self._producer.send(
            self._status, key=f"stream/{process}".encode(), value=json.dumps(status).encode()
        )

    def close(self) -> None:
        self._producer.close(timeout=ACK_TIMEOUT_S)
        self._consumer.close()


def _by_topic(offsets: dict[TopicPartition, int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for partition, offset in offsets.items():
        found.setdefault(partition.topic, {})[str(partition.partition)] = offset
    return found
