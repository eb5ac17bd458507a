"""Stand-ins at the boundaries: a spool in memory, a broker in memory, a policy made by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from kafka.errors import KafkaError, KafkaTimeoutError

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.contracts.contract import contract_of
from bakehouse_schemas.errors import SpoolFull
from bakehouse_schemas.events.events import PolicyPointer
from bakehouse_schemas.policy.bundle import Manifest, write_bundle
from bakehouse_schemas.policy.policy import Head
from bakehouse_serving.spool.frames import Record, Topic


class InMemorySpool:
    """Keeps what is appended; full on demand."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.full = False

    def append(self, records: list[Record], *, always: bool = False) -> None:
        if self.full and not always:
            raise SpoolFull("the spool is full; nothing was written")
        self.records += records

    def events(self, topic: Topic) -> list[dict[str, Any]]:
        return [orjson.loads(r.value) for r in self.records if r.topic == topic]


@dataclass
class Sent:
    """The promise of one send."""

    is_done: bool = False
    exception: BaseException | None = None

    def succeeded(self) -> bool:
        return self.is_done and self.exception is None


@dataclass
class InMemoryBroker:
    """What a broker would hold. `reachable` and `refuse` make it misbehave."""

    log: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    reachable: threading.Event = field(default_factory=threading.Event)
    refuse: Callable[[str, bytes], KafkaError | None] = lambda _topic, _value: None
    connections: int = 0
    tried: threading.Event = field(default_factory=threading.Event)

    def connect(self) -> InMemoryProducer:
        self.tried.set()
        if not self.reachable.is_set():
            raise KafkaTimeoutError("no broker answers")
        self.connections += 1
        return InMemoryProducer(self)


class InMemoryProducer:
    """Acknowledges at the flush, as a producer with a batch does."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self._broker = broker
        self._pending: list[tuple[Sent, str, bytes, bytes]] = []

    def send(self, topic: str, *, value: bytes, key: bytes) -> Sent:
        sent = Sent()
        self._pending.append((sent, topic, key, value))
        return sent

    def flush(self, timeout: float | None = None) -> None:
        if not self._broker.reachable.is_set():
            self._broker.tried.set()
            if not self._broker.reachable.wait(timeout):
                raise KafkaTimeoutError("not acknowledged in time")
        for sent, topic, key, value in self._pending:
            sent.exception = self._broker.refuse(topic, value)
            sent.is_done = True
            if sent.exception is None:
                self._broker.log.append((topic, key, value))
        self._pending.clear()

    def close(self, timeout: float | None = None) -> None:
        if timeout and self._broker.reachable.is_set():
            self.flush(timeout)
        self._pending.clear()


def publish_policy(
    policies: Path,
    application: Application,
    version: int,
    *,
    favourite: int,
    previous: int | None = None,
    epsilon: float = 0.2,
    received_at_ms: tuple[int, ...] = (),
    contract: str | None = None,
    gate: dict[str, Any] | None = None,
) -> PolicyPointer:
    """A bundle whose policy always prefers action number `favourite`, and the pointer to it."""
    size, actions = application.encoder.size, len(application.actions)
    bias = np.zeros(actions, np.float32)
    bias[favourite] = 1.0
    folder = policies / application.name / str(version)
    sha256 = write_bundle(
        folder,
        Manifest(
            application=application.name,
            contract=contract or application.contract,
            version=version,
            lineage="one",
            anchor=0,
            previous=version - 1 if previous is None else previous,
            agent="neural_greedy",
            actions=list(application.actions.labels),
            operations=[{"op": "dense", "weight": "w", "bias": "b"}],
            head=Head(kind="argmax"),
            exploration=Exploration(kind="epsilon_greedy", epsilon=epsilon, floor=0.01),
            seed=0,
            replay_version=1,
            stream_time_ms=1,
            created_at_ms=1,
            experiences=1,
            new_experiences=1,
            new_outcomes_received_at_ms=list(received_at_ms),
            gate=({} if contract else {"contract": contract_of(application).described()})
            | (gate or {}),
        ),
        {
            "normaliser_offset": np.zeros(size, np.float32),
            "normaliser_scale": np.ones(size, np.float32),
            "normaliser_clip": np.array(5.0, np.float32),
            "w": np.zeros((size, actions), np.float32),
            "b": bias,
        },
        golden_observations=np.zeros((2, size), np.float32),
        golden_eligible=np.ones((2, actions), bool),
    )
    return PolicyPointer(
        application=application.name,
        version=version,
        uri=str(folder),
        sha256=sha256,
        published_at_ms=1,
    )


class ConsumerRecord(NamedTuple):
    """A record as kafka-python's consumer hands it over."""

    topic: str
    partition: int
    offset: int
    timestamp: int  # the broker's, milliseconds since 1970
    key: bytes
    value: bytes
