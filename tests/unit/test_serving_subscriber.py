"""What serving makes of the policies that were published before it listened."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition

from bakehouse_schemas.events.events import PolicyPointer
from bakehouse_schemas.process.settings import Settings
from bakehouse_serving.policies import subscriber as subscriber_module
from bakehouse_serving.policies.subscriber import Subscriber
from tests.fakes import publish_policy
from tests.unit.test_serving_http import Server
from tests.waiting import wait_until


class Consumer:
    """Kafka's, of one partition a topic; a poll returns two records of the policies."""

    def __init__(self, pointers: list[PolicyPointer], seen: Any) -> None:
        self._values = [pointer.model_dump_json().encode() for pointer in pointers]
        self._seen, self._at = seen, 0

    def partitions_for_topic(self, _: str) -> set[int]:
        return {0}

    def assign(self, partitions: list[TopicPartition]) -> None:
        self._policies = partitions[0]

    def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, len(self._values))

    def position(self, _: TopicPartition) -> int:
        return self._at

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        self._seen()
        values = self._values[self._at : self._at + 2]
        self._at += len(values)
        return {
            self._policies: [
                SimpleNamespace(key=b"levels", value=value, topic="policies", offset=at)
                for at, value in enumerate(values)
            ]
        }

    def close(self) -> None:
        pass


def test_after_a_restart_the_newest_policy_serves_and_none_that_it_replaced_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path)
    pointers = [
        publish_policy(server.policies, server.application, version, favourite=0)
        for version in (1, 2, 3, 4, 5)
    ]
    server.served.point([pointers[-1]], live=True)
    for version in (2, 4):  # the last of a poll each; the learner has removed them since
        shutil.rmtree(server.policies / "levels" / str(version))
    restarted = Server(tmp_path)
    assert restarted.served.slot.version == 5
    served = {"levels": restarted.served}
    subscriber = Subscriber(Settings(home=tmp_path, kafka_bootstrap="b:1"), served, process="0")
    versions: set[int] = set()

    def seen() -> None:
        versions.add(restarted.served.slot.version)

    consumer = Consumer(pointers, seen)
    monkeypatch.setattr(subscriber_module, "KafkaConsumer", lambda **_: consumer)
    subscriber.start()
    wait_until(lambda: subscriber.listening, "all that was published before is taken up")
    subscriber.stop()
    subscriber.join(30)
    assert versions == {5}
    assert restarted.served.swaps == 1  # from version 0, at its start
    state = restarted.served.state()
    assert (state["newest_version"], state["refused_policy"]) == (5, None)
    assert restarted.served.last_refused_at_ms == 0
    restarted.close()
    server.close()
