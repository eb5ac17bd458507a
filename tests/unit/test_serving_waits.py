from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bakehouse_schemas.process.phase import GIVEN_UP, READY, PhaseFile
from bakehouse_serving.dashboard.waits import RUN, Waiting, Waits
from tests.unit.test_serving_http import ASK, Server

START_MS = 1_000_000
EARLIER = {"at_ms": START_MS - 3_600_000, "replay_version": 40}


def learner(at_ms: int, read: int) -> dict[str, Any]:
    return {"at_ms": at_ms, "applications": {"levels": {"replay_version": read}}}


class Looked:
    """Waits, looked at once a second."""

    def __init__(self, home: Path | None = None) -> None:
        self.waits = Waits(home, started_ms=START_MS)
        self.now_ms = START_MS

    def look(
        self,
        *,
        published: bool = False,
        stream: dict[str, Any] | None = None,
        read: dict[str, Any] | None = None,
    ) -> None:
        self.now_ms += 1_000
        self.waits.look(
            self.now_ms, published=published, stream=stream or {}, learners={"levels": read or {}}
        )


def test_a_part_without_work_is_not_waited_for_however_long_ago_it_spoke() -> None:
    looked = Looked()
    for _ in range(100):
        looked.look(stream=EARLIER, read=learner(START_MS - 3_600_000, 40))
    assert looked.waits.stream() == Waiting(None, heard=False)
    assert looked.waits.learner("levels") == Waiting(None, heard=False)


def test_the_first_event_after_an_idle_hour_begins_the_wait_and_a_word_of_stream_ends_it() -> None:
    looked = Looked()
    spoke = EARLIER | {"at_ms": START_MS + 500}
    looked.look(stream=spoke)
    looked.now_ms += 3_600_000
    looked.look(stream=spoke, published=True)
    came_ms = looked.now_ms
    looked.look(stream=spoke, published=True)
    assert looked.waits.stream() == Waiting(came_ms, heard=True)
    looked.look(stream=spoke | {"at_ms": looked.now_ms})
    assert looked.waits.stream() == Waiting(None, heard=True)


def test_the_learner_is_waited_for_while_the_table_is_ahead_of_it() -> None:
    looked = Looked()
    grown, at_ms = EARLIER | {"replay_version": 41}, START_MS + 500
    looked.look(stream=grown, read=learner(at_ms, 40))  # it speaks
    looked.look(stream=grown, read=learner(at_ms, 40))
    since_ms = looked.now_ms
    looked.look(stream=grown, read=learner(at_ms, 40))
    assert looked.waits.learner("levels") == Waiting(since_ms, heard=True)
    looked.look(stream=grown, read=learner(looked.now_ms, 41))
    assert looked.waits.learner("levels").since_ms is None


def test_a_learner_that_was_never_heard_is_waited_for_from_the_first_row_on() -> None:
    looked = Looked()
    looked.look(stream=EARLIER | {"replay_version": -1})
    assert looked.waits.learner("levels").since_ms is None
    looked.look(stream=EARLIER | {"replay_version": 0})
    assert looked.waits.learner("levels") == Waiting(looked.now_ms, heard=False)


def test_what_the_supervisor_says_counts_while_its_stack_runs(tmp_path: Path) -> None:
    looked = Looked(tmp_path)
    PhaseFile(tmp_path, "stream").announce(GIVEN_UP, pid=None)
    PhaseFile(tmp_path, "broker").announce("fetching jars")
    looked.look()  # no stack runs: these are of one that ended
    assert not looked.waits.stream().given_up and not looked.waits.broker_starts
    (tmp_path / RUN).touch()
    looked.look()
    assert looked.waits.stream().given_up and looked.waits.broker_starts
    assert looked.waits.learner("levels").starting  # it is yet to be started
    PhaseFile(tmp_path, "learner").announce(READY)
    PhaseFile(tmp_path, "broker").announce("not ours, at kafka:9092", pid=None)
    looked.look()
    assert not looked.waits.learner("levels").starting and not looked.waits.broker_starts


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def tick(server: Server, published: int, *, connected: bool = True) -> None:
    """A second passes, after which Kafka has taken so many records in all."""
    report = server.report
    report._publisher = SimpleNamespace(  # type: ignore[assignment]
        published=published, failures=0, refused=0, connected=connected, problem=None
    )
    report.tick()


def test_decisions_are_work_for_stream_and_what_people_say_is_not(server: Server) -> None:
    tick(server, 0)
    tick(server, 1)  # a control
    assert server.report.waits.stream().since_ms is None
    server.post("/decisions", ASK)
    tick(server, 2)
    assert server.report.waits.stream().since_ms is not None


def test_what_waits_for_kafka_is_no_work_for_stream_before_kafka_has_it(server: Server) -> None:
    server.post("/decisions", ASK)
    server.disk._unread = 1
    for _ in range(3):
        tick(server, 0, connected=False)
    assert server.report.waits.stream().since_ms is None
    server.disk._unread = 0
    tick(server, 1)
    assert server.report.waits.stream().since_ms is not None


def test_where_kafka_is_away_readiness_still_answers_and_says_that_nothing_is_learned(
    server: Server,
) -> None:
    later_s = server.report._started + 60
    server.report._clock = server.live._clock = lambda: later_s
    server.post("/decisions", ASK)
    ready = server.request("GET", "/readyz")
    assert ready.status_code == 200
    said = ready.json()
    assert (said["ready"], said["answers"], said["learns"]) == (True, True, False)
    why = said["not_learning"]["levels"]
    assert (why["stage"], why["blocks"]) == ("kafka", "Kafka cannot be reached")
    assert "BAKEHOUSE_KAFKA_BOOTSTRAP" in why["do"]  # none is named here
    verdict = server.live.view("levels")["verdict"]
    assert (verdict["state"], verdict["next"]) == ("blocked", why["do"])
    assert 'bakehouse_learns{application="levels"} 0.0' in server.request("GET", "/metrics").text


def test_where_all_parts_speak_readiness_says_that_it_learns(server: Server) -> None:
    at_ms = int(server.report._clock() * 1000)
    stream = {"part": "stream", "process": "1", "at_ms": at_ms, "replay_version": 3}
    its = {"replay_version": 3, "experiences": 5, "matured": 2}
    learner = {"part": "learner", "process": "2", "at_ms": at_ms, "applications": {"levels": its}}
    server.report._subscriber = SimpleNamespace(  # type: ignore[assignment]
        statuses={"stream/1": stream, "learner/2": learner}, listening=True, problem=None
    )
    tick(server, 0)
    said = server.request("GET", "/readyz").json()
    assert (said["learns"], said["not_learning"]) == (True, {})
    assert server.live.view("levels")["verdict"]["state"] == "learning"
