"""Kafka → slots: consumes policies, controls and the status of the other parts.

One thread and one consumer, off the event loop. Both topics are compacted and read from their
beginning, without a group, so every process reads everything. Bundles are loaded and checked by a
second thread, so that a kill is applied however long one takes.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from bakehouse_schemas.errors import BakehouseError, InvalidEvent
from bakehouse_schemas.events.events import PolicyPointer, Status
from bakehouse_schemas.events.records import read_control
from bakehouse_schemas.events.validation import validated
from bakehouse_schemas.events.wire import parse_object
from bakehouse_schemas.process.addresses import told
from bakehouse_schemas.process.settings import LISTENER_WAIT_MS, Settings
from bakehouse_serving.policies.served import Served

log = logging.getLogger(__name__)

RETRY_S = 0.5
# The broker answers a fetch at once when there is something, so waiting long costs no latency.


class Published(NamedTuple):
    """Pointers of one application that were heard of.

    Args:
        pointers: oldest first.
        of_contracts: the last one for each contract.
    """

    pointers: list[PolicyPointer]
    of_contracts: dict[str, PolicyPointer]


class Subscriber(threading.Thread):
    """The thread that consumes both topics; `loader` is the one that loads policies.

    Args:
        served: by application name.
        process: name of this one, whose own status is not news.
    """

    def __init__(self, settings: Settings, served: Mapping[str, Served], *, process: str) -> None:
        super().__init__(name="subscriber", daemon=True)
        self._settings = settings
        self._served = served
        self._process = process
        self._stopping = threading.Event()
        self._policies = settings.topic("policies")
        self._statuses = settings.topic("status")
        self.statuses: dict[str, dict[str, Any]] = {}  # latest by `<part>/<process>`
        self._loads: queue.Queue[Callable[[], None]] = queue.Queue()  # in the order of arrival
        self.loader = threading.Thread(target=self._load, name="policy loader", daemon=True)
        self.listening = False  # caught up with all that was published before
        self._before: dict[str, Published] = {}  # what was, until then
        self.problem: str | None = None

    def stop(self) -> None:
        """The thread ends with the process at the latest; a long fetch is not waited for."""
        self._stopping.set()

    def start(self) -> None:
        self.loader.start()
        super().start()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except (KafkaError, BakehouseError, OSError) as error:
                self._trouble(error)
            except Exception as error:
                log.exception("listening for policies failed; it begins anew")
                self._trouble(error)
            self.listening = False
            self._stopping.wait(RETRY_S)

    def _trouble(self, error: BaseException) -> None:
        if self.problem is None:
            log.warning(
                "cannot hear policies and controls (%s); the current ones go on serving", error
            )
        self.problem = told(error)

    def _load(self) -> None:
        while not self._stopping.is_set():
            load = self._loads.get()
            try:
                load()
            except OSError as error:  # in force; what could not be written is written next time
                log.warning("what was heard is not kept for a restart: %s", error)
            except Exception:
                log.exception("taking up a policy failed; the current one goes on serving")
            self._loads.task_done()

    def _listen(self) -> None:
        consumer = KafkaConsumer(**self._settings.kafka_listener("bakehouse-serving"))
        try:
            partitions = [
                TopicPartition(topic, number)
                for topic in (self._policies, self._statuses)
                for number in consumer.partitions_for_topic(topic) or ()
            ]
            if {partition.topic for partition in partitions} != {self._policies, self._statuses}:
                self.problem = self.problem or "the topics do not exist yet"
                return
            consumer.assign(partitions)
            # of both topics: one that cannot be read says so, and not only until the other was
            ends = consumer.end_offsets(partitions)
            self._before.clear()
            while not self._stopping.is_set():
                if not self.listening and all(
                    consumer.position(partition) >= end for partition, end in ends.items()
                ):
                    self._point(self._before)
                    if not self._loads.unfinished_tasks:
                        self.listening = True
                        self.problem = None
                polled = consumer.poll(timeout_ms=LISTENER_WAIT_MS if self.listening else 200)
                for partition, records in polled.items():
                    if partition.topic == self._policies:
                        self._hear(records)
                    else:
                        self._note_statuses(records)
        finally:
            consumer.close()

    def _hear(self, records: Iterable[Any]) -> None:
        """Control first, for it wins; then the newest pointer of each application.

        Of what was published before, the newest of all alone: bundles of those that it has replaced
        may be gone, and to serve one of them meanwhile would be a step back.
        """
        pointers: dict[str, Published] = {} if self.listening else self._before
        for record in records:
            try:
                if record.key is None or record.value is None:
                    continue
                key, _, control = record.key.decode().partition("/")
                # `<application>@<contract>`: the learner's last word to processes of a contract
                name, _, contract = key.partition("@")
                served = self._served.get(name)
                if served is None:
                    continue
                if control:
                    received = read_control(record.value, received_at_ms=record.timestamp)
                    _check_name(received.application, name)
                    if (change := served.apply_control(received)) is not None:
                        self._loads.put(partial(served.complete, change))
                else:
                    pointer = validated(PolicyPointer, parse_object(record.value))
                    _check_name(pointer.application, name)
                    published = pointers.setdefault(name, Published([], {}))
                    if contract:
                        published.of_contracts[contract] = pointer
                    else:
                        published.pointers.append(pointer)
            except (InvalidEvent, UnicodeDecodeError) as error:
                log.warning("%s offset %s is passed over: %s", record.topic, record.offset, error)
        if self.listening:
            self._point(pointers)

    def _point(self, pointers: dict[str, Published]) -> None:
        for name, (published, of_contracts) in pointers.items():
            point = self._served[name].point
            self._loads.put(
                partial(point, published, live=self.listening, of_contracts=of_contracts)
            )
        pointers.clear()

    def _note_statuses(self, records: Iterable[Any]) -> None:
        for record in records:
            try:
                fields = parse_object(record.value or b"")
                status = validated(Status, fields)
            except InvalidEvent:
                continue
            if (status.part, status.process) != ("serving", self._process):
                self.statuses[f"{status.part}/{status.process}"] = fields


def _check_name(came: str, expected: str) -> None:
    if came != expected:
        raise InvalidEvent(f"application: {came!r} under the key of {expected!r}")
