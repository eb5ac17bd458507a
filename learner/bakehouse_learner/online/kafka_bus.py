"""The bus on Kafka: reads progress, pointers and control, writes pointers and status.

One thread listens; nothing here blocks the training when the broker is away.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import orjson
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from bakehouse_learner.online.bus import BusState, key_for
from bakehouse_schemas.errors import BakehouseError, InvalidEvent
from bakehouse_schemas.events.events import Control, PolicyPointer, Progress
from bakehouse_schemas.events.validation import validated
from bakehouse_schemas.events.wire import parse_object
from bakehouse_schemas.process.addresses import told
from bakehouse_schemas.process.settings import Settings

log = logging.getLogger(__name__)

RETRY_S = 0.5
POLL_MS = 1_000  # how long a stop may have to wait


class KafkaBus(threading.Thread):
    """The `bakehouse_learner.online.bus.Bus` of a learner that runs, with its listening thread.

    Args:
        contracts: that are learned, by application.
    """

    def __init__(
        self, settings: Settings, *, process: str, contracts: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(name="listener", daemon=True)
        self._contracts = dict(contracts or {})
        self._settings = settings
        self._process = process
        self._state = BusState()
        self._news = threading.Event()
        self._stopping = threading.Event()
        self.listening = threading.Event()  # all that was published before has been read
        self._producer: KafkaProducer | None = None
        # by key: pointers that the broker has not taken, and the last of all
        self._unsent: dict[str, PolicyPointer] = {}
        self._latest: dict[str, PolicyPointer] = {}
        self.problem: str | None = None

    def stream_time_ms(self, replay_version: int) -> int:
        return self._state.stream_time_ms(replay_version)

    def replay_version(self) -> int:
        return self._state.replay_version()

    def control(self, application: str) -> Control | None:
        return self._state.control(application)

    def pointer(self, application: str, contract: str | None = None) -> PolicyPointer | None:
        return self._state.pointer(application, contract)

    def wait(self, seconds: float) -> None:
        self._news.wait(seconds)
        self._news.clear()

    def wake(self) -> None:
        """End a wait."""
        self._news.set()

    def publish(self, pointer: PolicyPointer) -> None:
        name = pointer.application
        contract = self._contracts.get(name)
        # first for its own contract: a server that has both is to find that one
        for key in (*(() if contract is None else (key_for(name, contract),)), name):
            self._latest[key] = self._unsent[key] = pointer
        self.retry()

    def retry(self) -> None:
        """Offer to the broker what it has not taken yet."""
        for key, pointer in list(self._unsent.items()):
            if self._send("policies", key, pointer.model_dump_json().encode(), pointer):
                self._unsent.pop(key, None)

    def report(self, fields: Mapping[str, Any], *, about: str | None = None) -> None:
        key = f"learner/{self._process if about is None else about}"
        self._send("status", key, orjson.dumps(fields), None)

    def _send(self, topic: str, key: str, value: bytes, again: PolicyPointer | None) -> bool:
        try:
            if self._producer is None:
                self._producer = KafkaProducer(
                    **self._settings.kafka_teller(),
                    client_id="bakehouse-learner",
                    max_block_ms=1_000,
                    bootstrap_timeout_ms=5_000,
                    delivery_timeout_ms=30_000,
                    request_timeout_ms=10_000,
                    allow_auto_create_topics=False,
                    metrics_enabled=False,
                )
            future = self._producer.send(self._settings.topic(topic), value, key=key.encode())
        except (KafkaError, BakehouseError, OSError) as error:
            self._trouble("publish", error)
            return False
        if again is not None:
            future.add_errback(self._refused, key, again)
        return True

    def _refused(self, key: str, pointer: PolicyPointer, error: BaseException) -> None:
        self._trouble("publish", error)
        if self._latest.get(key) is pointer:  # an older one would go back
            self._unsent[key] = pointer

    def _trouble(self, what: str, error: BaseException) -> None:
        if self.problem is None:
            log.warning("cannot %s (%s); learning goes on", what, error)
        self.problem = f"cannot {what}: {told(error)}"

    def stop(self) -> None:
        """Send what is still to be sent, and stop listening."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout=2 * POLL_MS / 1000)
        if self._producer is not None:
            try:
                self._producer.close(timeout=5)
            except KafkaError as error:
                log.warning("closing the producer: %s", error)

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except (KafkaError, BakehouseError, OSError) as error:
                self._trouble("listen", error)
            except Exception as error:
                log.exception("listening failed; it begins anew")
                self._trouble("listen", error)
            self.listening.clear()
            self._stopping.wait(RETRY_S)

    def _listen(self) -> None:
        policies, progress = self._settings.topic("policies"), self._settings.topic("progress")
        consumer = KafkaConsumer(**self._settings.kafka_listener("bakehouse-learner"))
        try:
            partitions = [
                TopicPartition(topic, number)
                for topic in (policies, progress)
                for number in consumer.partitions_for_topic(topic) or ()
            ]
            if {partition.topic for partition in partitions} != {policies, progress}:
                self.problem = self.problem or "the topics do not exist yet"
                return
            consumer.assign(partitions)
            ends = consumer.end_offsets(partitions)
            for partition in partitions:
                if partition.topic == progress:  # the last one says it all
                    consumer.seek(partition, max(ends[partition] - 1, 0))
            while not self._stopping.is_set():
                caught_up = all(consumer.position(p) >= end for p, end in ends.items())
                if caught_up and not self.listening.is_set():
                    self.listening.set()
                    self.problem = None
                polled = consumer.poll(timeout_ms=POLL_MS if caught_up else 200)
                for partition, records in polled.items():
                    for record in records:
                        self._hear(record, of_progress=partition.topic == progress)
                if polled:
                    self._news.set()
        finally:
            consumer.close()

    def _hear(self, record: Any, *, of_progress: bool) -> None:
        if record.value is None or (record.key is None and not of_progress):
            return
        try:
            if of_progress:
                self._state.progress(validated(Progress, parse_object(record.value)))
            else:
                self._state.policies(
                    record.key.decode(), record.value, received_at_ms=record.timestamp
                )
        except (InvalidEvent, UnicodeDecodeError) as error:
            log.warning("%s offset %s is passed over: %s", record.topic, record.offset, error)
