"""What people ask a running stream to do, heard over Kafka.

Records of `policies.v1` under the key `@stream/<order>`: serving writes them when it is asked to
(`POST /v1/stream:requeue`), and everybody else passes over them. The topic is compacted, so the
newest of each order is what a stream finds that starts later; whoever carries one out remembers
which it has done.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from bakehouse_schemas.errors import BakehouseError, InvalidEvent
from bakehouse_schemas.events.events import ORDERS_TO_STREAM, Order
from bakehouse_schemas.events.records import read_order
from bakehouse_schemas.process.settings import LISTENER_WAIT_MS, Settings

RETRY_S = 0.5

log = logging.getLogger("stream")


class Orders(threading.Thread):
    """The thread that listens; it ends with the process at the latest.

    Args:
        carry_out: order → what takes note of it, quickly; called in this thread.
    """

    def __init__(
        self, settings: Settings, carry_out: Mapping[str, Callable[[Order], object]]
    ) -> None:
        super().__init__(name="orders", daemon=True)
        self._settings = settings
        self._carry_out = carry_out
        self._stopping = threading.Event()

    def stop(self) -> None:
        """A long fetch is not waited for."""
        self._stopping.set()

    def run(self) -> None:
        said = False
        while not self._stopping.is_set():
            try:
                self._listen()
                said = False
            except (KafkaError, BakehouseError, OSError) as error:
                if not said:
                    log.warning("cannot hear what people ask for (%s); trying on", error)
                said = True
            except Exception:
                log.exception("listening for orders failed; it begins anew")
            self._stopping.wait(RETRY_S)

    def _listen(self) -> None:
        topic = self._settings.topic("policies")
        consumer = KafkaConsumer(**self._settings.kafka_listener("bakehouse-stream"))
        try:
            numbers = consumer.partitions_for_topic(topic) or ()
            partitions = [TopicPartition(topic, number) for number in numbers]
            if not partitions:
                return
            consumer.assign(partitions)
            while not self._stopping.is_set():
                for records in consumer.poll(timeout_ms=LISTENER_WAIT_MS).values():
                    self.hear(records)
        finally:
            consumer.close()

    def hear(self, records: Iterable[Any]) -> None:
        """Records of the topic, most of them none of ours."""
        for record in records:
            if record.value is None or not (record.key or b"").startswith(ORDERS_TO_STREAM):
                continue
            try:
                order = read_order(record.value, received_at_ms=record.timestamp)
            except InvalidEvent as error:
                log.warning("%s offset %s is passed over: %s", record.topic, record.offset, error)
                continue
            carry_out = self._carry_out.get(order.order)
            if carry_out is None:
                log.warning("this release does not know how to %r; passed over", order.order)
            else:
                carry_out(order)
