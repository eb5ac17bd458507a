from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka.errors import KafkaError, MessageSizeTooLargeError, NotLeaderForPartitionError

from bakehouse_serving.spool.folder_lock import lock_orphans, lock_own_folder
from bakehouse_serving.spool.frames import Record, Topic, scan
from bakehouse_serving.spool.publisher import Publisher
from bakehouse_serving.spool.spool import Spool
from tests.fakes import InMemoryBroker

TOPICS = {int(topic): topic.name.lower() for topic in Topic}
PATIENCE_S = 20.0


def event(number: int) -> Record:
    return Record(Topic.DECISIONS, b"key", b"%d" % number)


class Running:
    """A publisher between a real spool and a broker in memory."""

    def __init__(self, folder: Path) -> None:
        self.broker = InMemoryBroker()
        self.root = folder / "spool"
        self.folder_lock = lock_own_folder(self.root)
        self.spool = Spool(self.folder_lock.folder, limit_bytes=1 << 20)
        self.publisher = self._publisher()

    def _publisher(self) -> Publisher:
        orphans = [(c, Spool(c.folder, limit_bytes=1 << 20)) for c in lock_orphans(self.root)]
        return Publisher(
            self.spool,
            topics=TOPICS,
            status_topic="status",
            producer=self.broker.connect,
            orphans=orphans,
            linger_s=0.0,
            retry_s=0.001,
        )

    def events(self) -> list[int]:
        return [int(value) for topic, _, value in self.broker.log if topic == "decisions"]

    def close(self) -> None:
        self.publisher.stop(0.1)
        self.spool.close()
        self.folder_lock.release()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    running.close()


def test_what_is_spooled_is_published_under_its_topic_and_key(running: Running) -> None:
    running.broker.reachable.set()
    running.publisher.start()
    running.spool.append([event(1), Record(Topic.OUTCOMES, b"k2", b"{}")])
    assert running.publisher.stop(PATIENCE_S)
    assert running.broker.log == [("decisions", b"key", b"1"), ("outcomes", b"k2", b"{}")]


def test_a_dead_broker_blocks_no_append_and_gets_everything_in_order_when_it_is_back(
    running: Running,
) -> None:
    running.publisher.start()
    running.spool.append([event(0)])
    assert running.broker.tried.wait(PATIENCE_S)
    for number in range(1, 50):
        running.spool.append([event(number)])
    running.broker.reachable.set()
    assert running.publisher.stop(PATIENCE_S)
    assert running.events() == list(range(50))


def test_a_broker_that_dies_in_between_loses_nothing(running: Running) -> None:
    running.broker.reachable.set()
    running.publisher.start()
    running.spool.append([event(0)])
    running.broker.tried.clear()
    running.broker.reachable.clear()
    running.spool.append([event(1)])
    running.broker.reachable.set()
    assert running.publisher.stop(PATIENCE_S)
    assert sorted(set(running.events())) == [0, 1]


def test_a_record_whose_delivery_failed_is_sent_again(running: Running) -> None:
    failing = iter([NotLeaderForPartitionError(), NotLeaderForPartitionError()])

    def refuse(_: str, value: bytes) -> KafkaError | None:
        return next(failing, None) if value == b"1" else None

    running.broker.refuse = refuse
    running.broker.reachable.set()
    running.publisher.start()
    running.spool.append([event(0), event(1), event(2)])
    assert running.publisher.stop(PATIENCE_S)
    assert sorted(running.events()) == [0, 1, 2]
    assert running.publisher.failures == 2
    assert running.broker.connections > 1  # a producer that has failed is not trusted again


def test_a_record_that_the_broker_can_never_take_is_kept_aside_and_holds_nothing_up(
    running: Running,
) -> None:
    running.broker.refuse = lambda _, value: MessageSizeTooLargeError() if value == b"1" else None
    running.broker.reachable.set()
    running.publisher.start()
    running.spool.append([event(0), event(1), event(2)])
    assert running.publisher.stop(PATIENCE_S)
    assert running.events() == [0, 2]
    assert running.publisher.refused == 1
    kept = (running.folder_lock.folder / "refused.frames").read_bytes()
    assert scan(kept, sealed=True).records == [event(1)]


def test_a_stop_without_a_broker_ends_in_time_and_leaves_the_events_to_the_next_start(
    running: Running,
) -> None:
    running.publisher.start()
    running.spool.append([event(0)])
    assert running.broker.tried.wait(PATIENCE_S)
    assert not running.publisher.stop(0.01)
    assert not running.publisher.is_alive()
    running.spool.close()
    again = Spool(running.folder_lock.folder, limit_bytes=1 << 20)
    assert again.read() == [event(0)]
    again.close()


def test_the_spools_of_dead_processes_are_published_and_removed(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    first, second = lock_own_folder(root), lock_own_folder(root)
    left = Spool(second.folder, limit_bytes=1 << 20)
    left.append([event(7)])
    left.close()
    first.release()
    second.release()  # both are dead now
    running = Running(tmp_path)
    assert running.folder_lock.process == "0"
    running.broker.reachable.set()
    running.publisher.start()
    running.spool.append([event(8)])
    assert running.publisher.stop(PATIENCE_S)
    assert running.events() == [7, 8]
    assert sorted(path.name for path in root.iterdir()) == ["0"]
    running.close()


def test_a_status_is_published_without_a_spool_and_the_newest_replaces_the_others(
    running: Running,
) -> None:
    running.broker.reachable.set()
    running.publisher.report(b"serving/0", b"old")
    running.publisher.report(b"serving/0", b"new")
    running.spool.append([event(0)])
    running.publisher.start()
    assert running.publisher.stop(PATIENCE_S)
    assert running.broker.log == [("decisions", b"key", b"0"), ("status", b"serving/0", b"new")]
    assert running.publisher.published == 1
