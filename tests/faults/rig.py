"""A whole stack that can be hurt: a broker behind a bad network, parts that die where told.

The parts are the product's own, under its own supervisor. Kafka's address is a proxy's, so that
every client meets what the network does; failpoints end a process in the middle of what it does.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from bakehouse.local.jars import ensure_jars
from bakehouse.local.java import find_java
from bakehouse.local.ports import keep_ports
from bakehouse.local.topics import ensure_topics
from bakehouse_schemas.process.failpoints import VARIABLE, arm, is_armed
from bakehouse_schemas.process.settings import Settings
from bakehouse_stream.kafka.sources import Offsets
from bakehouse_stream.kafka.stream_time import reaches
from bakehouse_stream.tables.running_account import RunningAccount
from tests.faults.beside import AdvertisedBroker, BrokerProcess, wait_until
from tests.faults.game import REF, application
from tests.faults.growing import SOONER, write_growing
from tests.faults.oracle import Sent
from tests.faults.players import Players
from tests.faults.proxy import Proxy
from tests.faults.stack import RollingStack
from tests.homes.releases import Release

PARTS = ("serving", "stream", "learner")
BASE = f"/v1/applications/{application.name}"
RETENTION_S = 12.0  # of the join; what comes later is repair's
READY_S = 180.0
SETTLE_S = 900.0  # after ten minutes without a broker there is much to read


Measured = dict[str, Any]  # what a scenario saw, by name


class Rig:
    """See the module."""

    def __init__(
        self,
        scratch: Path,
        settings: Settings,
        stack: RollingStack,
        broker: BrokerProcess,
        proxy: Proxy,
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
        self.rolled: list[tuple[float, float]] = []  # a policy is in force, and nobody ends it
        self.growing = str(scratch / "growing.py")  # a second application; see its module
        self.later: dict[str, Any] = {}  # what one scenario leaves for another
        self._producer: KafkaProducer | None = None

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
        consumer = KafkaConsumer(**self.settings.kafka_reader())
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

    def do_nothing(self) -> None:
        """Beside a kill."""

    def kill(self, part: str, then: Callable[[], None]) -> None:
        """`kill -9` a part at whatever moment this is; `then` is done before it is back."""
        with self.serving_down() if part == "serving" else nullcontext():
            before = self.stack.pids()[part]
            self.stack.kill(part)
            self.kills += 1
            then()
            self._await_back(part, before)

    def kill_at(self, point: str, *, stimulus: Callable[[], None]) -> float:
        """Have a part end at a failpoint and come back; returns the seconds until it was ready."""
        part = point.split(".")[0]
        with self.serving_down() if part == "serving" else nullcontext():
            before = self.stack.pids()[part]
            self.stack.forgive(part)
            arm(self.failpoints, point)
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

    def roll(self, part: str, *, refs: Sequence[str] | None = None) -> None:
        """Upgrade a part to this release; with `refs`, to other files of applications too."""
        with self.serving_down() if part == "serving" else nullcontext():
            self.stack.roll(part, refs=refs)
            self.stack.wait(part, READY_S)

    def _await_back(self, part: str, before: int) -> None:
        wait_until(
            lambda: self.stack.pids().get(part, before) != before, f"{part} is started again"
        )
        self.stack.wait(part, READY_S)

    # --- holding to account

    def _noted(self) -> dict[str, Any]:
        """Where stream is, as it notes it."""
        found: dict[str, Any] = json.loads((self.home / "stream" / "offsets.json").read_text())
        return found

    def applied(self) -> Offsets:
        """Offsets before which everything is in the tables."""
        found: Offsets = self._noted()["applied"]
        return found

    def checkpoint(self) -> Path:
        """Spark's, that of now."""
        noted = self._noted()
        return self.home / "checkpoints" / f"{noted['name']}-{noted['generation']}"

    def keep_checkpoint(self) -> None:
        """Copy it while nobody writes to it."""
        current = self.checkpoint()
        self.later["checkpoint"] = self.scratch / "kept" / current.name
        shutil.copytree(current, self.later["checkpoint"])

    def settle(self) -> int:
        """Wait until all that was sent is in the tables; returns how much is unaccounted for."""
        account = self.settled_account()
        return account["received"] - sum(n for name, n in account.items() if name != "received")

    def settled_account(self) -> dict[str, int]:
        """The account, once all that was sent by now is in the tables."""
        ends = self.ends()
        wait_until(
            lambda: reaches(self.applied(), ends),
            f"everything before {ends} is applied",
            patience_s=SETTLE_S,
        )
        return RunningAccount(self.settings, self.home).settle(
            until=self.applied(), stream_time_ms=int(time.time() * 1000)
        )


@contextmanager
def rig(
    scratch: Path, *, say: Callable[[str], None], release: Release | None = None
) -> Iterator[Rig]:
    """The stack, all parts ready.

    Args:
        release: the parts are those of an earlier one, until they are rolled.
    """
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
        upkeep_share=0.2,
        compact_after_minutes=0.1,
        log_retention_minutes=2.0,
        policies_kept=1_000_000,
        spool_bytes=2 << 30,  # ten minutes without a broker, at hundreds of events a second
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
    growing = write_growing(scratch, SOONER)
    try:
        broker.start()
        with Proxy(ports["proxy"], ports["broker"]) as proxy:
            ensure_topics(settings)
            earlier = {} if release is None else release.unpacked(scratch / "release")
            with RollingStack(
                [REF, growing], settings, earlier=earlier, on_event=lambda event: say(f"  {event}")
            ) as stack:
                for part in PARTS:
                    stack.wait(part, READY_S)
                yield Rig(scratch, stack.settings, stack, broker, proxy, say=say)
    finally:
        broker.kill()
