"""A whole stack that can be hurt: a broker behind a bad network, parts that die where told.

The parts are the product's own, under its own supervisor. Kafka's address is a proxy's, so that
every client meets what the network does; failpoints end a process in the middle of what it does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from bakehouse.local.broker import Broker
from bakehouse.local.jars import ensure_jars
from bakehouse.local.java import find_java
from bakehouse.local.ports import answers, keep_ports
from bakehouse.local.supervisor import Stack
from bakehouse.local.topics import ensure_topics
from schemas.failpoints import VARIABLE, arm, is_armed
from schemas.phase import READY, PhaseFile
from schemas.settings import Settings
from stream.books import Books
from stream.sources import Offsets
from stream.stream_time import reaches
from tests import waiting
from tests.faults.game import REF, application
from tests.faults.oracle import Sent
from tests.faults.players import Players

# Seldom enough that whoever looks does not slow down what is measured.
wait_until = partial(waiting.wait_until, every_s=0.25)
PARTS = ("serving", "stream", "learner")
BASE = f"/v1/applications/{application.name}"
RETENTION_S = 12.0  # of the join; what comes later is repair's
READY_S = 180.0
SETTLE_S = 300.0


class Broken(AssertionError):
    """A promise was not kept."""


def hold(condition: bool, words: str) -> None:
    """Raise `Broken` unless the promise is kept."""
    if not condition:
        raise Broken(words)


@dataclass(frozen=True)
class AdvertisedBroker(Broker):
    """A broker that tells its clients another port than its own: that of a proxy."""

    advertised_port: int = 0

    def _properties(self) -> str:
        own = f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}"
        other = f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.advertised_port}"
        return super()._properties().replace(own, other)


class BrokerProcess:
    """The broker, killed and started at will."""

    def __init__(self, made: Broker, log: Path) -> None:
        self._made = made
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._made.command(), stdout=log, stderr=log)
        wait_until(lambda: answers(self._made.port), "the broker answers")

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Server:
    """A serving process beside the stack's own, with a home of its own or in the same one.

    Args:
        failpoints: its own folder, so that its deaths are nobody else's.
    """

    def __init__(self, settings: Settings, log: Path, *, failpoints: Path) -> None:
        self.settings = settings.model_copy(update={"port": 0})
        self._log = log
        self.failpoints = failpoints
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serving", REF],
                stdout=log,
                stderr=log,
                env=os.environ | self.settings.as_environment() | {VARIABLE: str(self.failpoints)},
            )
        pid = self.process.pid
        phase = PhaseFile(self.settings.home, "serving")

        def ready() -> bool:
            assert self.process is not None
            hold(self.process.poll() is None, f"serving ended: {self._log.read_text()[-2000:]}")
            said = phase.read() or {}
            return said.get("phase") == READY and said.get("pid") == pid

        wait_until(ready, "a second serving process answers")
        self.url = str((phase.read() or {})["url"])

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    def kill(self) -> None:
        """`kill -9`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def status(self) -> dict[str, Any]:
        """What it says of itself."""
        found: dict[str, Any] = httpx.get(f"{self.url}/v1/status", timeout=30).json()["serving"]
        return found


class Rig:
    """See the module."""

    def __init__(
        self,
        scratch: Path,
        settings: Settings,
        stack: Stack,
        broker: BrokerProcess,
        proxy: Any,
        *,
        say: Callable[[str], None],
    ) -> None:
        self.scratch = scratch
        self.settings = settings
        self.home = settings.home
        self.stack = stack
        self.broker = broker
        self.proxy = proxy
        self.say = say
        self.failpoints = scratch / "failpoints"
        self.url = stack.url
        self.players: Players | None = None
        self.kills = 0
        self.down: list[tuple[float, float]] = []  # when serving did not run
        self.refused: set[tuple[str, int, int]] = set()  # records made to be quarantined
        self.acknowledged: list[tuple[str, str]] = []  # decision, outcome ("" for none) of others
        self.unlogged: set[str] = set()  # answered, and promised not to be learned from
        self.later: dict[str, Any] = {}  # what one scenario leaves for another
        self._producer: KafkaProducer | None = None
        self.repairs = self.compactions = 0

    # --- asking

    def status(self) -> dict[str, Any]:
        """`GET …/status` of the application."""
        return self._get(f"{BASE}/status")

    def policy(self) -> dict[str, Any]:
        """`GET …/policy`."""
        return self._get(f"{BASE}/policy")

    def stream(self) -> dict[str, Any]:
        """The newest status of the stream part."""
        return self.newest("stream")

    def newest(self, part: str) -> dict[str, Any]:
        """The newest status of a part; empty before the first."""
        found = [p for p in self.status()["parts"].values() if p["part"] == part]
        return max(found, key=lambda one: int(one["at_ms"]), default={})

    def _get(self, path: str) -> dict[str, Any]:
        answer = httpx.get(self.url + path, timeout=30)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def act(self, verb: str, **body: Any) -> httpx.Response:
        """`POST …/policy:{verb}`."""
        return httpx.post(f"{self.url}{BASE}/policy:{verb}", json=body, timeout=30)

    def serving_memory_mb(self) -> float:
        """Memory that serving alone holds."""
        return float(psutil.Process(self.stack.pids()["serving"]).memory_full_info().uss) / (
            1 << 20
        )

    # --- Kafka

    def publish(
        self,
        topic: str,
        events: Iterable[Mapping[str, Any] | bytes | None],
        *,
        refused: bool = False,
    ) -> None:
        """Publish as a game that writes to Kafka itself; every record is acknowledged."""
        if self._producer is None:
            self._producer = KafkaProducer(**self.settings.kafka_client(), acks="all")
        sent = []
        for event in events:
            value = orjson.dumps(event) if isinstance(event, Mapping) else event
            sent.append(
                (event, self._producer.send(self.settings.topic(topic), key=b"k", value=value))
            )
        for event, future in sent:
            place = future.get(timeout=60)
            if refused:
                self.refused.add((place.topic, place.partition, place.offset))
            elif topic in ("decisions", "outcomes") and isinstance(event, Mapping):
                self.acknowledged.append((event["decision_id"], event.get("outcome_id", "")))

    def ends(self) -> dict[str, dict[str, int]]:
        """Where both event topics end now."""
        consumer = KafkaConsumer(**self.settings.kafka_client())
        try:
            partitions = self._partitions(consumer)
            found: dict[str, dict[str, int]] = {}
            for partition, offset in consumer.end_offsets(partitions, timeout_ms=60_000).items():
                found.setdefault(partition.topic, {})[str(partition.partition)] = offset
            return found
        finally:
            consumer.close()

    def _partitions(self, consumer: KafkaConsumer) -> list[TopicPartition]:
        return [
            TopicPartition(self.settings.topic(name), number)
            for name in ("decisions", "outcomes")
            for number in consumer.partitions_for_topic(self.settings.topic(name)) or ()
        ]

    def records(self) -> list[Sent]:
        """Everything that the event topics hold, as the broker keeps it."""
        consumer = KafkaConsumer(**self.settings.kafka_client())
        found: list[Sent] = []
        try:
            partitions = self._partitions(consumer)
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            ends = consumer.end_offsets(partitions)
            while any(consumer.position(partition) < end for partition, end in ends.items()):
                for records in consumer.poll(1_000).values():
                    for r in records:
                        refused = (r.topic, r.partition, r.offset) in self.refused
                        event = None if refused else orjson.loads(r.value)
                        found.append(Sent(r.timestamp, r.topic, r.partition, r.offset, event))
        finally:
            consumer.close()
        return found

    # --- hurting

    @contextmanager
    def serving_down(self) -> Iterator[None]:
        """Marks a time in which requests may fail, because serving does not run."""
        began = time.monotonic()
        yield
        self.down.append((began, time.monotonic()))

    def kill(self, part: str, then: Callable[[], None] = lambda: None) -> None:
        """`kill -9` a part at whatever moment this is; `then` is done before it is back."""
        with self.serving_down() if part == "serving" else _nothing():
            before = self.stack.pids()[part]
            self.stack.kill(part)
            self.kills += 1
            then()
            self._await_back(part, before)

    def kill_at(
        self, point: str, *, visit: int = 1, stimulus: Callable[[], None] = lambda: None
    ) -> float:
        """Have a part end at a failpoint and come back; returns the seconds until it was ready."""
        part = point.split(".")[0]
        with self.serving_down() if part == "serving" else _nothing():
            before = self.stack.pids()[part]
            self.stack.forgive(part)
            arm(self.failpoints, point, visit=visit)
            stimulus()
            wait_until(
                lambda: not is_armed(self.failpoints, point),
                f"{part} reaches {point}",
                patience_s=SETTLE_S,
            )
            self.kills += 1
            began = time.monotonic()
            self._await_back(part, before)
            return time.monotonic() - began

    def _await_back(self, part: str, before: int) -> None:
        wait_until(
            lambda: self.stack.pids().get(part, before) != before, f"{part} is started again"
        )
        self.stack.wait(part, READY_S)

    # --- holding to account

    def applied(self) -> Offsets:
        """Offsets before which everything is in the tables, as stream notes them."""
        noted = json.loads((self.home / "stream" / "offsets.json").read_text())
        found: Offsets = noted["applied"]
        return found

    def settle(self) -> int:
        """Wait until all that was sent is in the tables; returns how much is unaccounted for."""
        ends = self.ends()
        wait_until(
            lambda: reaches(self.applied(), ends),
            f"everything before {ends} is applied",
            patience_s=SETTLE_S,
        )
        account = Books(self.settings, self.home).settle(
            until=self.applied(), stream_time_ms=int(time.time() * 1000)
        )
        return account["received"] - sum(n for name, n in account.items() if name != "received")


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def rig(scratch: Path, *, say: Callable[[str], None]) -> Iterator[Rig]:
    """The stack, all parts ready."""
    from tests.faults.proxy import Proxy

    java, jars = find_java(), ensure_jars(say)
    ports = keep_ports(scratch / "ports.json", ["broker", "controller", "proxy"])
    settings = Settings(
        home=scratch / "home",
        port=0,
        kafka_bootstrap=f"127.0.0.1:{ports['proxy']}",
        join_retention_minutes=RETENTION_S / 60,
        repair_every_s=2.0,
        account_every_s=2.0,
        upkeep_every_s=5.0,
        compact_after_minutes=0.1,
        log_retention_minutes=2.0,
        policies_kept=1_000_000,
    )
    made = AdvertisedBroker(
        folder=scratch / "kafka",
        java=java,
        jars=jars.kafka,
        port=ports["broker"],
        controller_port=ports["controller"],
        settings=settings,
        advertised_port=ports["proxy"],
    )
    made.prepare()
    broker = BrokerProcess(made, scratch / "broker.log")
    os.environ[VARIABLE] = str(scratch / "failpoints")
    try:
        broker.start()
        with Proxy(ports["proxy"], ports["broker"]) as proxy:
            ensure_topics(settings)
            with Stack([REF], settings, on_event=lambda event: say(f"  {event}")) as stack:
                for part in PARTS:
                    stack.wait(part, READY_S)
                yield Rig(scratch, stack.settings, stack, broker, proxy, say=say)
    finally:
        broker.kill()
