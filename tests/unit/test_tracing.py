"""A traced decision's way, from the request to the answer of a policy that learned from it."""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakehouse_learner.online.loop import ApplicationLoop
from bakehouse_schemas.errors import MissingDependency
from bakehouse_schemas.ids import uuid7, uuid7_of
from bakehouse_schemas.policy.bundle import MANIFEST, read_manifest
from bakehouse_schemas.process.phase import READY, PhaseFile
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.process.spans import Tracer, collector_address, open_tracer
from bakehouse_schemas.process.tracing import (
    DECIDE,
    FIRST_ANSWER,
    JOIN,
    MOST_TRACED,
    OUTCOME,
    PUBLISH,
    SWAP,
    TRACED,
    TRAIN,
    Span,
    is_traced,
    named_in,
    span_id,
    to_name,
    trace_id,
)
from bakehouse_serving.policies.served import Served
from bakehouse_serving.spool.frames import Topic
from bakehouse_stream.columns import arrow_schema
from bakehouse_stream.kafka.decode import Decoder, Record
from bakehouse_stream.traced import joined
from tests.collector import Collector, Kept, collecting
from tests.fakes import publish_policy
from tests.learner_fakes import GAME, LinearAgent, MemoryBus, Play
from tests.replay_rows import Table
from tests.stream_events import APPLICATION, decision, outcome
from tests.unit.test_decide import make_application
from tests.unit.test_serving_http import Server
from tests.waiting import wait_until

A = "01a204a1-9c69-7000-8493-0a2ae2fab7a9"
UUID7S = st.builds(uuid7_of, st.integers(0, (1 << 48) - 1), st.binary(min_size=10, max_size=10))
IDS = UUID7S | st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=32
)
MARK = "anna-4711"


# --- which, and under which names


@given(IDS, st.floats(0, 1), st.floats(0, 1))
def test_what_is_traced_at_a_share_is_traced_at_every_larger_one(
    decision_id: str, one: float, other: float
) -> None:
    assert is_traced(decision_id, min(one, other)) <= is_traced(decision_id, max(one, other))
    assert is_traced(decision_id, 1.0) and not is_traced(decision_id, 0.0)


def test_the_share_of_decisions_is_the_share_that_was_asked_for() -> None:
    now_ms = 1_790_000_000_000  # all within one millisecond: only the drawn bits differ
    traced = sum(is_traced(uuid7(now_ms), 0.05) for _ in range(20_000))
    assert 850 < traced < 1_150  # 1,000 ± 5 standard deviations


def test_so_it_is_of_ids_that_only_count() -> None:
    traced = sum(is_traced(f"match-{at}", 0.05) for at in range(20_000))
    assert 850 < traced < 1_150


@given(IDS)
def test_every_id_has_a_trace_of_its_own(decision_id: str) -> None:
    assert 0 < trace_id(decision_id) < 1 << 128
    assert trace_id(decision_id) != trace_id(f"{decision_id}2")


@given(UUID7S, st.text(), st.text())
def test_a_uuid7_is_the_traces_id_and_spans_of_one_trace_have_ids_of_their_own(
    decision_id: str, name: str, key: str
) -> None:
    assert f"{trace_id(decision_id):032x}" == decision_id.replace("-", "")
    assert 0 < span_id(decision_id, name, key) < 1 << 64
    assert span_id(decision_id, name, key) == span_id(decision_id, name, key)
    assert span_id(decision_id, name, key) != span_id(decision_id, name, key + "1")


def test_a_manifest_names_the_newest_sixteen_and_what_is_no_id_is_passed_over() -> None:
    ids = [uuid7() for _ in range(20)]
    assert to_name([*ids, ids[-1]]) == {TRACED: ids[-MOST_TRACED:]}
    assert to_name([]) == {}
    assert named_in(to_name(ids)) == tuple(ids[-MOST_TRACED:])
    assert named_in({TRACED: [1, "", "x\n", A, None, "match-7"]}) == (A, "match-7")
    for other in ({}, {TRACED: "x"}, {TRACED: {A: A}}, {TRACED: None}):
        assert named_in(other) == ()


def test_the_path_of_the_protocol_is_added_where_it_is_missing() -> None:
    for given_ in (
        "http://collector:4318",
        "http://collector:4318/",
        "http://collector:4318/v1/traces",
    ):
        assert collector_address(given_) == "http://collector:4318/v1/traces"


# --- handing over


def span(name: str = DECIDE, *, key: str = "", **attributes: Any) -> Span:
    return Span(A, name, 1_000, 2_000, attributes, key)


def test_spans_reach_a_collector_with_the_ids_that_follow_from_the_decision() -> None:
    with collecting() as collector:
        settings = Settings(trace_endpoint=collector.url, trace_share=1.0)
        tracer = open_tracer(settings, "serving", process="7")
        assert tracer is not None
        tracer.add(span(cohort="policy", explored=True))
        tracer.add(span(OUTCOME, key="o1"))
        tracer.stop()
    decided, told = collector.spans
    assert collector.paths == {"/v1/traces"}
    assert decided.service == "bakehouse-serving"
    assert decided.trace_id == told.trace_id == trace_id(A)
    assert decided.span_id == told.parent_id == span_id(A, DECIDE)
    assert decided.parent_id == 0 and told.span_id == span_id(A, OUTCOME, "o1")
    assert (decided.start_ns, decided.end_ns) == (1_000, 2_000)
    assert decided.attributes == {"cohort": "policy", "explored": True, "decision_id": A}


def test_a_collector_that_is_away_costs_a_stop_a_second_at_most() -> None:
    settings = Settings(trace_endpoint="http://127.0.0.1:9", trace_share=1.0)
    tracer = Tracer(settings, "serving", process="7")
    began = time.perf_counter()
    for _ in range(10_000):  # more than the queue holds
        tracer.add(span())
    added_s = time.perf_counter() - began
    tracer.stop()
    assert time.perf_counter() - began - added_s < 2.0
    assert added_s < 10.0  # nothing waited for the collector


def test_what_a_collector_refuses_is_dropped_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "bakehouse_schemas.process.spans")
    with collecting() as collector:
        collector.refusing = True
        tracer = Tracer(Settings(trace_endpoint=collector.url), "serving", process="7")
        for _ in range(3):
            tracer.add(span())
            tracer._processor.force_flush()
        collector.refusing = False
        tracer.add(span(OUTCOME))
        tracer.stop()
    assert [one.name for one in collector.spans] == [OUTCOME]
    said = [one.message for one in caplog.records if one.name == "bakehouse_schemas.process.spans"]
    assert [" ".join(one.split()[:4]) for one in said] == [
        "the collector does not",
        "the collector takes spans",
    ]


def test_nothing_is_opened_without_an_endpoint_or_with_a_share_of_nothing() -> None:
    assert open_tracer(Settings(), "serving", process="7") is None
    endpoint = "http://127.0.0.1:9"
    settings = Settings(trace_endpoint=endpoint, trace_share=0.0)
    assert open_tracer(settings, "serving", process="7") is None


def test_nothing_of_opentelemetry_is_imported_where_nothing_is_traced() -> None:
    program = (
        "import sys\n"
        # FastAPI imports the API by itself where it is installed; what does anything is the SDK
        "loaded = ('opentelemetry.sdk', 'opentelemetry.exporter')\n"
        "import bakehouse_serving.server, bakehouse_stream.traced\n"
        "import bakehouse_learner.online.traced\n"
        "from bakehouse_schemas.process.settings import Settings\n"
        "from bakehouse_schemas.process.spans import open_tracer\n"
        "assert open_tracer(Settings(), 'serving', process='7') is None\n"
        "print([name for name in sys.modules if name.startswith(loaded)])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout == "[]\n", ran.stderr


def test_an_endpoint_without_the_extra_is_refused_with_what_to_install() -> None:
    program = (
        "import sys\n"
        "sys.modules['opentelemetry.trace'] = None\n"
        "from bakehouse_schemas.errors import MissingDependency\n"
        "from bakehouse_schemas.process.settings import Settings\n"
        "from bakehouse_schemas.process.spans import open_tracer\n"
        "try: open_tracer(Settings(trace_endpoint='http://c'), 'serving', process='7')\n"
        "except MissingDependency as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "bakehouse[otel]" in ran.stdout, ran.stderr
    assert issubclass(MissingDependency, Exception)


# --- stream and learner


def test_a_batch_gives_a_span_from_the_brokers_receipt_to_the_commit() -> None:
    decoder = Decoder({APPLICATION.name: APPLICATION}, "decisions")
    received_ms = int(time.time() * 1000)
    made = decision(subject_id=MARK, context={"skill": 0.5, MARK: MARK})
    told = outcome(made["decision_id"], "o1", payload={MARK: MARK})
    one = Record("decisions", 0, 0, received_ms, b"", json.dumps(made).encode())
    two = Record("outcomes", 0, 0, received_ms + 300, b"", json.dumps(told).encode())
    rows = [row["replay"] for row in decoder.single(one) + decoder.pair(one, two)]
    table = pa.Table.from_pylist(rows, schema=arrow_schema("replay"))
    tracer, committed_ns = Kept(), (received_ms + 900) * 1_000_000
    spans = list(joined(table, tracer, committed_ns=committed_ns, version=7))  # type: ignore[arg-type]
    assert [one.name for one in spans] == [JOIN, JOIN]
    assert [(one.end_ns - one.start_ns) // 1_000_000 for one in spans] == [900, 600]
    assert [one.key for one in spans] == ["", "o1"]
    assert spans[0].attributes == {
        "application": APPLICATION.name,
        "replay_version": 7,
        "rows": 2,
        "kind": "decision",
    }
    tracer.share = 0.0
    assert list(joined(table, tracer, committed_ns=0, version=7)) == []  # type: ignore[arg-type]
    assert list(joined(pa.table({}), tracer, committed_ns=0, version=7)) == []  # type: ignore[arg-type]


def test_the_learner_says_which_training_took_a_decision_in_and_which_policy_knows_of_it(
    tmp_path: Path,
) -> None:
    play, tracer = Play(tmp_path), Kept()
    tracer.share = 0.02
    loop = play.loop(tracer=tracer)
    loop.start()
    while len(play.bus.pointers) < 2:
        play.second(loop)
        assert play.clock.s < 60
    trained, published = tracer.named(TRAIN), tracer.named(PUBLISH)
    assert trained and published
    assert all(tracer.is_traced(one.decision_id) for one in tracer.spans)
    assert {one.attributes["rows"] for one in trained} - {0}
    last = read_manifest(Path(str(play.bus.pointers[-1].uri)))
    named = named_in(last.gate)
    assert {one.decision_id for one in published if one.key == str(last.version)} == set(named)
    assert set(named) <= {one.decision_id for one in trained}
    first = read_manifest(Path(str(play.bus.pointers[0].uri)))
    assert len(named_in(first.gate)) <= MOST_TRACED


def test_without_a_tracer_manifests_are_as_they_have_always_been(tmp_path: Path) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    while not play.bus.pointers:
        play.second(loop)
    manifest = json.loads((Path(str(play.bus.pointers[0].uri)) / MANIFEST).read_text())
    assert TRACED not in manifest["gate"]
    # a server of an earlier release refuses a manifest that has a field more
    assert "traced" not in " ".join(manifest)


# --- serving


def test_a_swap_and_the_first_answer_are_told_of_the_decisions_that_are_new_in_a_policy(
    tmp_path: Path,
) -> None:
    application, tracer = make_application(), Kept()
    now = [100.0]
    served = Served(
        application,
        policies=tmp_path / "policies",
        cache=tmp_path / "levels.json",
        clock=lambda: now[0],
        tracer=tracer,  # type: ignore[arg-type]
    )
    ids = [uuid7() for _ in range(5)]
    pointers = [
        publish_policy(
            tmp_path / "policies",
            application,
            version,
            favourite=0,
            received_at_ms=(1,),
            gate=to_name(ids[version - 1 : version]),
        )
        for version in (1, 2, 3, 4, 5)
    ]
    served.point(pointers[:2], live=True)  # the first is passed over: its decisions are new, too
    assert [(one.decision_id, one.key) for one in tracer.named(SWAP)] == [
        (ids[0], "2"),
        (ids[1], "2"),
    ]
    now[0] = 100.5
    served.first_answer(served.slot)
    served.first_answer(served.slot)
    answered = tracer.named(FIRST_ANSWER)
    assert [one.decision_id for one in answered] == ids[:2]
    assert (answered[0].end_ns - answered[0].start_ns) == 500_000_000
    served.point(pointers[2:3], live=False)  # published before this process listened
    assert len(tracer.named(SWAP)) == 2
    served.point(pointers[3:4], live=True)
    served.complete(  # another slot, the same news
        served.put_in_force("explore", by="me", why="a test", share=0.5)
    )
    served.point(pointers[4:], live=True)
    served.first_answer(served.slot)
    assert [one.decision_id for one in tracer.named(FIRST_ANSWER)[2:]] == ids[3:]


class Way:
    """Every part but the broker, Spark and TensorFlow, in one process and on the real clock."""

    def __init__(self, home: Path) -> None:
        self.tracer, self.bus, self.table = Kept(), MemoryBus(), Table(home / "tables")
        self.server = Server(home, GAME, tracer=self.tracer)
        self.decoder = Decoder({GAME.name: GAME}, "decisions")
        self.loop = ApplicationLoop(
            GAME,
            Settings(home=home, policies_kept=5),
            self.bus,
            LinearAgent,
            clock=map(float, itertools.count()).__next__,  # always time for a training
            wall_ms=now_ms,
            tracer=self.tracer,  # type: ignore[arg-type]
        )
        self.loop.start()
        self.rng = np.random.default_rng(0)

    def play(self, players: int = 100) -> None:
        """They win on the right where x is above one half, and on the left elsewhere."""
        asked = [
            {"subject_id": f"{MARK}-{at}", "context": {"x": float(self.rng.random())}}
            for at in range(players)
        ]
        self.server.spool.records.clear()
        answers = self.server.post("/decisions:batch", {"decisions": asked}).json()["decisions"]
        told = [
            {"decision_id": answer["decision_id"], "outcome_id": "won", "name": "won"}
            for answer, one in zip(answers, asked, strict=True)
            if (answer["action"] == "right") == (one["context"]["x"] > 0.5)
        ]
        assert self.server.post("/outcomes", {"outcomes": told}).status_code == 202

    def join(self) -> None:
        """What is spooled becomes rows of the table, as stream makes them."""
        received_ms, records = now_ms(), self.server.spool.records
        topics = {Topic.DECISIONS: "decisions", Topic.OUTCOMES: "outcomes"}
        found = [
            Record(topics[Topic(one.topic)], 0, at, received_ms, one.key, one.value)
            for at, one in enumerate(records)
        ]
        decisions = {one.key: one for one in found if one.topic == "decisions"}
        rows = [row for one in decisions.values() for row in self.decoder.single(one)]
        for one in found:
            if one.topic == "outcomes":
                rows += self.decoder.pair(decisions[one.key], one)
        replay = [row["replay"] for row in rows]
        version = self.table.append(replay)
        batch = pa.Table.from_pylist(replay, schema=arrow_schema("replay"))
        committed_ns = time.time_ns()
        for span in joined(batch, self.tracer, committed_ns=committed_ns, version=version):  # type: ignore[arg-type]
            self.tracer.add(span)
        self.bus.now_ms = now_ms() + 10_000  # everything has matured

    def traces(self) -> list[dict[str, Span]]:
        """The first span of each name, by decision."""
        found: dict[str, dict[str, Span]] = {}
        for one in self.tracer.spans:
            found.setdefault(one.decision_id, {}).setdefault(one.name, one)
        return list(found.values())


def test_one_trace_leads_from_a_request_to_the_answer_of_a_policy_that_learned_from_it(
    tmp_path: Path,
) -> None:
    way = Way(tmp_path)
    for _ in range(40):
        way.play()
        way.join()
        way.loop.turn()
        if way.bus.pointers:
            break
    assert way.bus.pointers, way.loop.status()["gate"]
    way.server.served.point(way.bus.pointers, live=True)
    way.play(1)
    way.server.close()
    steps = [DECIDE, JOIN, TRAIN, PUBLISH, SWAP, FIRST_ANSWER]
    complete = [spans for spans in way.traces() if set(spans) == {*steps, OUTCOME}]
    assert 0 < len(complete) <= MOST_TRACED
    for spans in complete:
        ends = [spans[name].end_ns // 1_000_000 for name in steps]  # the learner's are in ms
        assert ends == sorted(ends)
        assert {one.parent_id for one in spans.values()} == {None, spans[DECIDE].span_id}
    assert MARK not in repr(way.tracer.spans)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def asked(http: httpx.Client, count: int) -> list[str]:
    ids = []
    for at in range(count):
        body = {"subject_id": f"{MARK}-{at}", "context": {"skill": 0.5, MARK: MARK}}
        answer = http.post("/decisions", json=body)
        ids.append(answer.json()["decision_id"])
    told = [
        {"decision_id": one, "outcome_id": f"{MARK}:{one}", "name": "won", "payload": {MARK: MARK}}
        for one in ids
    ]
    assert http.post("/outcomes", json={"outcomes": told}).json()["accepted"] == count
    return ids


def run_serving(folder: Path, collector: Collector, share: float, count: int) -> list[str]:
    """A real process asked `count` times; returns the ids of its decisions."""
    game, home = folder / "game.py", folder / "home"
    game.write_text(
        "from bakehouse_schemas.application.application import *\n"
        "from bakehouse_schemas.application.observation import Numeric\n"
        "from bakehouse_schemas.application.reward import Reward\n"
        "application = Application(name='levels', observation=[Numeric('skill', low=0, high=1)],\n"
        "    actions=Discrete('easy', 'hard'), baseline=lambda context: 'easy',\n"
        "    reward=Reward({'won': 1.0}, window=minutes(1)))\n"
    )
    settings = Settings(home=home, port=0, trace_endpoint=collector.url, trace_share=share)
    environment = {name: value for name, value in os.environ.items() if "BAKEHOUSE" not in name}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bakehouse_serving", str(game)],
            env=environment | settings.as_environment(),
            stderr=log,
        )
        told: dict[str, Any] = {}

        def is_ready() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            told.update(PhaseFile(home, "serving").read() or {})
            return told.get("phase") == READY

        try:
            wait_until(is_ready, "serving is ready")
            with httpx.Client(base_url=f"{told['url']}/v1/applications/levels") as http:
                return asked(http, count)
        finally:
            process.terminate()
            assert process.wait(30) == 0


def test_a_serving_process_sends_spans_of_the_share_and_nothing_of_a_player(
    tmp_path: Path,
) -> None:
    with collecting() as collector:
        ids = run_serving(tmp_path, collector, 0.3, 60)
    expected = {one for one in ids if is_traced(one, 0.3)}
    decided, told = collector.named(DECIDE), collector.named(OUTCOME)
    assert {one.attributes["decision_id"] for one in decided} == expected
    assert {one.attributes["decision_id"] for one in told} == expected
    assert 0 < len(expected) < 60 and len(decided) == len(expected)
    for one in decided:
        assert set(one.attributes) == {
            "application",
            "policy_version",
            "cohort",
            "explored",
            "decision_id",
        }
        assert 0 <= one.end_ns - one.start_ns < 5e9
    assert MARK.encode() not in b"".join(collector.bodies)
