"""The query begins again after it has died, and from where."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError

from bakehouse_schemas.errors import StackError
from bakehouse_stream.kafka.checkpoints import Checkpoint
from bakehouse_stream.queries.query import Counts
from bakehouse_stream.queries.query_restarts import MOST_FRUITLESS, QueryRestarts, restart_delay_s
from tests.waiting import wait_until

TOPICS = ("decisions", "outcomes")


def at(offset: int) -> dict[str, dict[str, int]]:
    return {topic: {"0": offset} for topic in TOPICS}


class FakeBroker:
    def __init__(self) -> None:
        self.end = 10
        self.away = False

    def beginnings(self) -> dict[str, dict[str, int]]:
        return at(0)

    def ends(self) -> dict[str, dict[str, int]]:
        if self.away:
            raise KafkaTimeoutError("nobody answers")
        return at(self.end)


class FakeQuery:
    """Dies when it is told to; makes its checkpoint's folder as Spark does."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.counts = Counts()
        self.started_at: list[Any] = []
        self.folders: list[Path] = []
        self._checkpoint = checkpoint
        self._end: queue.Queue[Exception | None] = queue.Queue()
        self.progress: dict[str, Any] | None = None
        self.refuses: Path | None = None

    def start(self, start: Any) -> None:
        if self._checkpoint.path == self.refuses:
            raise ValueError("the metadata file is missing")
        self.started_at.append(start)
        self.folders.append(self._checkpoint.path)
        (self._checkpoint.path / "offsets").mkdir(parents=True, exist_ok=True)

    def die(self, error: Exception | None = None) -> None:
        self._end.put(error or RuntimeError("out of luck"))

    def await_termination(self) -> Exception | None:
        return self._end.get()

    def last_progress(self) -> dict[str, Any] | None:
        return self.progress

    def stop(self) -> None:
        pass


class Rig:
    def __init__(self, home: Path) -> None:
        self.checkpoint = Checkpoint(home, "print")
        self.broker = FakeBroker()
        self.query = FakeQuery(self.checkpoint)
        self.woken = threading.Event()
        self.now_s = 0.0
        self.restarts = QueryRestarts(
            self.query,  # type: ignore[arg-type]
            self.checkpoint,
            self.broker,  # type: ignore[arg-type]
            woken=self.woken,
            clock=lambda: self.now_s,
        )

    def die(self) -> None:
        self.woken.clear()
        self.query.die()
        wait_until(self.woken.is_set, "the death is noticed")
        self.restarts.check()

    def later(self) -> None:
        self.now_s += 60.0
        self.restarts.check()


def test_a_query_that_died_begins_again_after_a_while(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.restarts.check()
    rig.query.counts.batches = 3
    rig.die()
    assert not rig.restarts.is_alive
    assert rig.restarts.problem == "out of luck"
    rig.restarts.check()
    assert rig.restarts.starts == 1, "it waits first"
    rig.later()
    assert rig.restarts.starts == 2
    rig.query.counts.batches = 4
    rig.restarts.check()
    assert rig.restarts.problem is None


def test_a_checkpoint_that_is_refused_twice_is_left_and_the_gap_is_known(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.checkpoint.note_applied(at(7))
    (rig.checkpoint.path / "offsets").mkdir(parents=True)
    rig.restarts.check()
    assert rig.restarts.gap is None
    rig.die()
    rig.later()
    rig.die()
    rig.later()
    first, second, third = rig.query.folders
    assert first == second != third
    assert rig.restarts.gap == at(10)
    assert rig.query.started_at[-1] == at(7)


def test_a_checkpoint_that_is_refused_at_the_start_is_left_too(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.checkpoint.note_applied(at(7))
    rig.query.refuses = rig.checkpoint.path
    for _ in range(3):
        rig.later()
    assert rig.restarts.is_alive
    assert rig.query.folders == [rig.checkpoint.path] != [rig.query.refuses]


def test_a_broker_that_is_away_refuses_no_checkpoint(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.restarts.check()
    rig.broker.away = True
    rig.die()
    for _ in range(3 * MOST_FRUITLESS):
        rig.later()
    assert rig.restarts.starts == 1
    assert "does not answer" in str(rig.restarts.problem)
    rig.broker.away = False
    rig.later()
    assert rig.restarts.starts == 2
    assert len(set(rig.query.folders)) == 1


def test_a_query_that_always_dies_ends_the_process_after_more_than_a_minute(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.restarts.check()
    for _ in range(MOST_FRUITLESS - 1):
        rig.die()
        rig.later()
    with pytest.raises(StackError, match="without having done anything"):
        rig.die()
    assert sum(restart_delay_s(n) for n in range(1, MOST_FRUITLESS)) > 45


def test_topics_that_were_made_anew_are_read_from_their_beginning(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.checkpoint.note_applied(at(1_000))
    rig.broker.end = 5
    rig.restarts.check()
    assert rig.query.started_at == [at(0)]
    assert rig.checkpoint.applied == at(0)


def test_an_old_checkpoint_that_was_put_back_takes_nothing_back(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, "print")
    checkpoint.note_applied(at(100))
    checkpoint.note_applied({"decisions": {"0": 40}})
    assert Checkpoint(tmp_path, "print").applied == at(100)
