"""Follows, from outside, what stream appends and what the learner publishes.

Each watch is a thread that notes facts as they appear, because tables are compacted, logs cleaned
and bundles pruned while a long demo runs.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import unquote

from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.policy.bundle import read_manifest
from bakehouse_schemas.process.settings import Settings

if TYPE_CHECKING:
    from kafka import KafkaConsumer, TopicPartition

LOOK_EVERY_S = 0.2
POINTER_WAIT_MS = 1000


class _Watch(ABC):
    """A thread that works until it is left."""

    def __init__(self, name: str) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    @abstractmethod
    def _run(self) -> None:
        """Note facts until `_stop` is set."""


class ReplayWatch(_Watch):
    """Notes in which version of the replay table each outcome appeared, and each decision.

    Attributes:
        outcomes: outcome_id → first version that holds it; `next` outcomes left out.
        decisions: ids of the decisions read.
    """

    def __init__(self, table: Path, application: str) -> None:
        super().__init__("replay-watch")
        self.outcomes: dict[str, int] = {}
        self.decisions: set[str] = set()
        self._table, self._application = table, application
        self._version = -1

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            self.look()

    def look(self) -> None:
        """Read the versions that have appeared since the last look."""
        while (commit := self._commit(self._version + 1)) is not None:
            for path in commit:
                self._note(path, self._version + 1)
            self._version += 1

    def _commit(self, version: int) -> list[str] | None:
        """Files that a version added for the application; None while it is not (wholly) there."""
        try:
            text = (self._table / "_delta_log" / f"{version:020d}.json").read_text()
            actions = [json.loads(line) for line in text.split("\n") if line]
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        added = [action["add"] for action in actions if "add" in action]
        return [
            unquote(add["path"])
            for add in added
            if add.get("dataChange", True)
            and add["partitionValues"].get("application") == self._application
        ]

    def _note(self, path: str, version: int) -> None:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        try:
            rows = pq.ParquetFile(self._table / path).read(columns=["decision_id", "outcomes"])
        except FileNotFoundError:
            return  # compacted and removed since; what it held was read from elsewhere
        self.decisions.update(rows["decision_id"].to_pylist())
        outcomes = pc.list_flatten(rows["outcomes"])
        for outcome_id in pc.struct_field(outcomes, "outcome_id").to_pylist():
            if not outcome_id.startswith("next:"):
                self.outcomes.setdefault(outcome_id, version)


class Published(NamedTuple):
    """What a published policy's manifest says."""

    replay_version: int
    exploration: Exploration


class PolicyWatch(_Watch):
    """Notes every policy that the learner publishes, as its pointer comes by.

    Attributes:
        published: policy version → what its manifest says.
        pointers: how many pointers the learner has published, those back to 0 included.
    """

    def __init__(self, settings: Settings, application: str) -> None:
        super().__init__("policy-watch")
        self.published: dict[int, Published] = {}
        self.pointers = 0
        self._settings, self._application = settings, application

    @property
    def trained_on(self) -> dict[int, int]:
        """Policy version → replay version."""
        return {version: one.replay_version for version, one in self.published.copy().items()}

    def _run(self) -> None:
        from kafka import TopicPartition

        partition = TopicPartition(self._settings.topic("policies"), 0)
        consumer = self._connect(partition)
        if consumer is None:
            return
        try:
            while not self._stop.is_set():
                for records in consumer.poll(timeout_ms=POINTER_WAIT_MS).values():
                    for record in records:
                        self._note(record.key, record.value)
        finally:
            consumer.close()

    def _connect(self, partition: TopicPartition) -> KafkaConsumer | None:
        """A consumer, once the broker is up and has the topic."""
        from kafka import KafkaConsumer
        from kafka.errors import KafkaError

        while not self._stop.is_set():
            try:
                consumer = KafkaConsumer(
                    **self._settings.kafka_reader(), enable_auto_commit=False, group_id=None
                )
                if partition.topic in consumer.topics():
                    consumer.assign([partition])
                    consumer.seek_to_beginning(partition)
                    return consumer
                consumer.close()
            except KafkaError:
                pass  # the broker is still starting
            self._stop.wait(LOOK_EVERY_S)
        return None

    def _note(self, key: bytes | None, value: bytes | None) -> None:
        if value is None or key != self._application.encode():
            return
        self.pointers += 1
        version = json.loads(value)["version"]
        try:
            manifest = read_manifest(self._settings.policies / self._application / str(version))
        except BakehouseError:
            return  # version 0 has none; one that is pruned already proves nothing
        self.published[version] = Published(manifest.replay_version, manifest.exploration)
