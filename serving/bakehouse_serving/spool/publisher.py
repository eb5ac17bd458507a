"""Spool → Kafka, in the background, for as long as it takes.

One stretch of the spool is in flight at a time: read, sent, acknowledged by the broker, and only
then is the position remembered. A broker that is away blocks nothing but this thread, and holds
no more memory than that stretch. A record may reach the broker twice (a kill between its
acknowledgement and ours); the fold absorbs that. None is dropped: one that the broker can never
take is put aside in `refused.frames` and counted.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from kafka import KafkaProducer
from kafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
)

from bakehouse_schemas.process.addresses import told
from bakehouse_schemas.process.failpoints import reach
from bakehouse_schemas.process.settings import Settings
from bakehouse_serving.spool.folder_lock import FolderLock
from bakehouse_serving.spool.frames import Record, Topic, frame
from bakehouse_serving.spool.spool import Spool

log = logging.getLogger(__name__)

LINGER_S = 0.04  # lets a stretch grow: a round with the broker costs more than a hundred events
RETRY_S = 0.5
IMPOSSIBLE = (MessageSizeTooLargeError,)


class Future(Protocol):
    """What a send promises."""

    is_done: bool
    exception: BaseException | None

    def succeeded(self) -> bool: ...


class Producer(Protocol):
    """The part of a Kafka producer that is used here."""

    def send(self, topic: str, *, value: bytes, key: bytes) -> Future: ...
    def flush(self, timeout: float | None = None) -> None: ...
    def close(self, timeout: float | None = None) -> None: ...


def record_bytes(settings: Settings) -> int:
    """The largest record that the topics take: a body, and what serving adds to it."""
    return 2 * settings.max_body_bytes + (64 << 10)


def connect(settings: Settings) -> Producer:
    """A producer. Raises KafkaError where no broker answers."""
    producer: Producer = KafkaProducer(
        **settings.kafka_client(),
        client_id="bakehouse-serving",
        acks="all",
        enable_idempotence=True,
        compression_type="lz4",
        linger_ms=0,  # a stretch is flushed as a whole
        batch_size=256 << 10,
        max_request_size=record_bytes(settings),
        max_block_ms=5_000,
        bootstrap_timeout_ms=5_000,
        reconnect_backoff_max_ms=1_000,
        allow_auto_create_topics=False,
        metrics_enabled=False,
    )
    return producer


class Publisher(threading.Thread):
    """The thread that publishes this spool, and those of dead processes.

    Args:
        spool: this process's own, published until the end.
        orphans: spools of dead processes; each is published once and removed.
        topics: full topic name of each `Topic`.
        producer: makes a connected producer, or raises KafkaError.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        topics: Mapping[int, str],
        status_topic: str,
        producer: Callable[[], Producer],
        orphans: Sequence[tuple[FolderLock, Spool]] = (),
        linger_s: float = LINGER_S,
        retry_s: float = RETRY_S,
    ) -> None:
        super().__init__(name="publisher", daemon=True)
        self._spool = spool
        self._orphans = list(orphans)
        self._topics = topics
        self._status_topic = status_topic
        self._connect = producer
        self._linger_s = linger_s
        self._retry_s = retry_s
        self._producer: Producer | None = None
        self._more = threading.Event()
        self._stopping = threading.Event()
        self._deadline = float("inf")  # monotonic; when a stop gives up draining
        self._status: tuple[bytes, bytes] | None = None
        self.published = 0
        self.failures = 0  # sends that had to be repeated
        self.refused = 0  # records that the broker can never take
        self.connected = False
        self.problem: str | None = None
        spool.wake = self.wake

    def wake(self) -> None:
        """There is more in the spool. Cheap where the thread is awake already."""
        if not self._more.is_set():
            self._more.set()

    def report(self, key: bytes, value: bytes) -> None:
        """Publish this status, unless a newer one comes first: it needs no spool."""
        self._status = (key, value)
        self.wake()

    def stop(self, timeout_s: float) -> bool:
        """Publish what is left, for so long at most; True if nothing is left."""
        self._deadline = time.monotonic() + timeout_s
        self._stopping.set()
        self._more.set()
        self.join(timeout_s + 0.5)
        return self._spool.drained

    # --- the thread

    def run(self) -> None:
        for lock, spool in self._orphans:
            if not self._publish_all(spool):
                break
            try:
                _release(lock, spool)
            except OSError as error:  # the next start finds it again, with nothing to publish
                log.warning("%s cannot be removed (%s)", spool.folder, error)
        while True:
            self._more.wait()
            if not self._stopping.is_set():
                self._stopping.wait(self._linger_s)
            self._more.clear()
            if not self._publish_all(self._spool):
                break
            try:
                self._publish_status()
            except Exception as error:  # a status is never worth the events that come after it
                log.exception("publishing the status failed; events go on")
                self._trouble(error)
                self._close(timeout=0)
            if self._stopping.is_set():
                break
        if self._producer is not None:
            self._close(timeout=1.0)

    def _publish_all(self, spool: Spool) -> bool:
        """Until the spool is empty; False if a stop's deadline came first."""
        while not self._give_up():
            try:
                records = spool.read()
                if not records:
                    return True
                if not self._deliver(records):
                    break
                reach("serving.publish.before_acknowledgement")
                spool.acknowledge()
                self.published += len(records)
            except Exception as error:
                # This thread is the only way out for events: whatever it met, it tries again.
                log.exception("publishing failed; it goes on from the last acknowledged record")
                self._trouble(error)
                self._close(timeout=0)
                spool.rewind()
                self._stopping.wait(self._retry_s)
        spool.rewind()
        return False

    def _deliver(self, records: list[Record]) -> bool:
        """Until the broker has acknowledged all; False if a stop's deadline came first."""
        left = records
        while left:
            if self._give_up():
                return False
            producer = self._connection()
            if producer is None:
                continue
            left = self._attempt(producer, left)
            if left:
                self.failures += len(left)
                self._stopping.wait(self._retry_s)
        return True

    def _attempt(self, producer: Producer, records: list[Record]) -> list[Record]:
        """Send once; returns what is not acknowledged."""
        sent: list[tuple[Record, Future]] = []
        left: list[Record] = []
        try:
            for at, record in enumerate(records):
                try:
                    topic = self._topics[record.topic]
                    sent.append((record, producer.send(topic, value=record.value, key=record.key)))
                except (*IMPOSSIBLE, KeyError) as error:
                    self._put_aside(record, error)
                except KafkaError as error:  # no metadata, most likely: so for the rest, too
                    self._trouble(error)
                    left = records[at:]
                    break
            self._flush(producer)
        except KafkaError as error:
            self._trouble(error)
        failed: list[Record] = []
        for record, future in sent:
            if future.succeeded():
                continue
            if isinstance(future.exception, IMPOSSIBLE):
                self._put_aside(record, future.exception)
            else:
                failed.append(record)
                if future.exception is not None:
                    self._trouble(future.exception)
        if failed:
            # An idempotent producer that has failed may be fenced for good: begin anew.
            self._close(timeout=0)
        elif not left:
            self.problem = None
        return failed + left

    def _flush(self, producer: Producer) -> None:
        while True:
            try:
                return producer.flush(timeout=1.0)
            except KafkaTimeoutError as error:
                self._trouble(error)
                if self._give_up():
                    return None

    def _give_up(self) -> bool:
        return self._stopping.is_set() and time.monotonic() > self._deadline

    def _connection(self) -> Producer | None:
        if self._producer is None:
            try:
                self._producer = self._connect()
            except (KafkaError, OSError) as error:
                self._trouble(error)
                self._stopping.wait(self._retry_s)
                return None
            self.connected = True
            self.problem = None
        return self._producer

    def _close(self, *, timeout: float) -> None:
        producer, self._producer, self.connected = self._producer, None, False
        if producer is not None:
            try:
                producer.close(timeout=timeout)
            except Exception as error:  # whatever state it is in, another takes its place
                log.debug("closing the producer: %s", error)

    def _trouble(self, error: BaseException) -> None:
        if self.problem is None:
            log.warning("Kafka does not take events (%s); they wait in the spool", error)
        self.problem = told(error)

    def _put_aside(self, record: Record, error: BaseException) -> None:
        self.refused += 1
        path = self._spool.folder / "refused.frames"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(fd, frame(record))
        finally:
            os.close(fd)
        log.error("Kafka can never take a record (%s); it is kept in %s", error, path)

    def _publish_status(self) -> None:
        status, self._status = self._status, None
        if status is None:
            return
        if self._producer is None:
            if not self._spool.drained:
                return
            if self._connection() is None:
                return
        assert self._producer is not None
        try:
            self._producer.send(self._status_topic, key=status[0], value=status[1])
        except KafkaError as error:
            self._trouble(error)


def _release(lock: FolderLock, spool: Spool) -> None:
    """Release the spool of a dead process, all of it published."""
    spool.close()
    if any(spool.folder.glob("*.frames")):
        lock.release()  # what Kafka refused is for a person to look at
    else:
        lock.release(remove=True)
    log.info("published what process %s had left", lock.process)


def topics(settings: Settings) -> dict[int, str]:
    """Full topic name of each kind of record."""
    return {
        int(Topic.DECISIONS): settings.topic("decisions"),
        int(Topic.OUTCOMES): settings.topic("outcomes"),
        int(Topic.POLICIES): settings.topic("policies"),
    }
