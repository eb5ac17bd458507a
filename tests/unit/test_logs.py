"""What the parts log: nothing of a player, in either format, whatever came."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from kafka.errors import KafkaTimeoutError

from bakehouse_learner.online.kafka_bus import KafkaBus
from bakehouse_learner.replay.row_decoder import RowDecoder
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.errors import BaselineFailed, InvalidEvent, SpoolFull
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.logs import (
    QUIET,
    formatter,
    readable,
    set_up_logs,
    traceback_of,
    words,
)
from bakehouse_schemas.process.phase import READY, PhaseFile
from bakehouse_schemas.process.settings import Settings
from bakehouse_serving.api_keys import Authenticator
from bakehouse_serving.hot.outcome_tokens import OutcomeTokens
from bakehouse_serving.policies.subscriber import Subscriber
from bakehouse_serving.spool.frames import Record, Topic
from bakehouse_serving.spool.publisher import Publisher
from bakehouse_serving.spool.spool import Spool
from bakehouse_stream.kafka.decode import Decoder
from bakehouse_stream.kafka.decode import Record as KafkaRecord
from tests.fakes import ConsumerRecord, InMemorySpool
from tests.learner_fakes import GAME, LinearAgent, Play
from tests.replay_rows import arrow
from tests.replay_rows import decision as row
from tests.stream_events import APPLICATION, decision, outcome
from tests.unit.test_serving_http import Server
from tests.unit.test_stream_query_restarts import Rig
from tests.waiting import wait_until

MARK = "anna-4711"  # stands for a player wherever it turns up
PARTS = ("schemas", "serving", "stream", "learner")
ROOT = Path(__file__).parents[2]
CALLS = {"debug", "info", "warning", "error", "exception", "critical"}


class Heard:
    """All that is logged, by every formatter, and as Python's own would say it."""

    def __init__(self) -> None:
        self.texts = {name: io.StringIO() for name in ("text", "json", "plain")}
        self.handlers = [logging.StreamHandler(text) for text in self.texts.values()]
        self.handlers[0].setFormatter(formatter("test", "text"))
        self.handlers[1].setFormatter(formatter("test", "json"))

    @property
    def plain(self) -> str:
        """Without any care."""
        return self.texts["plain"].getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.texts["json"].getvalue().splitlines()]

    def hold_no_player(self) -> None:
        assert MARK not in self.texts["text"].getvalue()
        assert MARK not in self.texts["json"].getvalue()


@pytest.fixture
def heard() -> Iterator[Heard]:
    one, root = Heard(), logging.getLogger()
    levels = {"": logging.INFO, "httpx": logging.WARNING} | QUIET  # httpx is the game's
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    for handler in one.handlers:
        root.addHandler(handler)
    yield one
    for handler in one.handlers:
        root.removeHandler(handler)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


# --- in words


def test_a_log_says_of_an_error_that_quotes_what_came_only_where_it_was_raised() -> None:
    said = words(raised(InvalidEvent(f"subject_id: got {MARK!r}")))
    assert said.startswith("InvalidEvent at test_logs.py:")
    assert MARK not in words(raised(BaselineFailed(f"raised KeyError: {MARK}")))
    assert MARK not in words(raised(ValueError(f"could not convert string to float: {MARK!r}")))


def test_a_log_repeats_what_cannot_quote_a_player() -> None:
    assert words(SpoolFull("the spool is full")) == "the spool is full"
    assert words(OSError(28, "No space left on device", "/x")) == (
        "OSError: No space left on device: '/x'"
    )
    assert words(KafkaTimeoutError("none")).startswith("KafkaTimeoutError")


def test_a_traceback_shows_the_way_and_the_causes_and_quotes_neither() -> None:
    try:
        try:
            raise KeyError(MARK)
        except KeyError as error:
            raise InvalidEvent(f"no such player: {MARK}") from error
    except InvalidEvent as error:
        said = traceback_of(error)
    assert MARK not in said
    assert said.index("KeyError") < said.index("This led to:") < said.index("InvalidEvent")
    assert said.count("test_logs.py") == 4  # a place and its words, twice


def test_a_json_line_says_when_how_bad_who_and_what_with_what_else_is_known(heard: Heard) -> None:
    logging.getLogger("bakehouse_serving.policies.served").warning(
        "policy %s refused: %s",
        7,
        SpoolFull("full"),
        extra={"application": "levels", "version": 7, "share": float("nan")},
    )
    (line,) = heard.lines
    assert line.pop("at").endswith("Z") and len(heard.lines[0]["at"]) == len(
        "2026-11-24T15:38:34.123Z"
    )
    assert line == {
        "level": "WARNING",
        "part": "test",
        "logger": "bakehouse_serving.policies.served",
        "message": "policy 7 refused: full",
        "application": "levels",
        "version": 7,
        "share": "nan",
    }


def test_a_json_line_reads_as_a_line_of_text_and_any_other_is_left_alone(heard: Heard) -> None:
    try:
        raise SpoolFull("full")
    except SpoolFull:
        logging.getLogger("serving").exception("no room", extra={"application": "levels"})
    line = heard.texts["json"].getvalue().rstrip("\n")
    first, *below = readable(line).splitlines()
    assert first.endswith("Z ERROR serving: no room  (application=levels)".removeprefix("Z"))
    assert below[0] == "Traceback (most recent call last):"
    assert below[-1] == "SpoolFull: full"
    for other in ("--- serving started", "{not json", '{"a": 1}', "[1]", ""):
        assert readable(other) == other


def test_what_nobody_caught_is_logged_without_its_words() -> None:
    program = f"""
import sys, threading
from bakehouse_schemas.process.logs import set_up_logs
set_up_logs("serving", "json", to=sys.stderr)
def fail(): raise ValueError({MARK[:4]!r} + {MARK[4:]!r})
thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 1
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["CRITICAL", "CRITICAL"]
    assert all("ValueError" in line["exception"] for line in lines)
    assert MARK not in ended.stderr


def test_a_line_that_cannot_be_written_and_a_warning_do_not_quote_either() -> None:
    program = f"""
import logging, sys, warnings
from bakehouse_schemas.process.logs import set_up_logs
set_up_logs("stream", "text", to=sys.stdout)
mark = {MARK[:4]!r} + {MARK[4:]!r}
class Odd:
    def __str__(self): raise RuntimeError(mark)
logging.getLogger("one").warning("%s", Odd(), extra={{"player": mark}})
logging.getLogger("two").warning("half a character: %s", chr(0xD800))
warnings.warn(f"expected `int`, got {{mark}}")
"""
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    first, second, third = ran.stdout.splitlines()
    assert first == "a line of one could not be logged"
    assert second.endswith("half a character: \\ud800")
    assert third.endswith(": UserWarning")
    assert MARK not in ran.stdout + ran.stderr and ran.returncode == 0


def test_log_calls_hand_over_exceptions_and_constant_templates() -> None:
    """What is put into the text before the call is out of reach of the rule above."""
    found = []
    for path in sorted(path for part in PARTS for path in (ROOT / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Attribute) and node.attr == "basicConfig":
                found.append(f"{where} sets logging up by itself")
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            of = node.func.value
            if node.func.attr not in CALLS or not isinstance(of, ast.Name) or of.id != "log":
                continue
            if not isinstance(node.args[0], ast.Constant):
                found.append(f"{where} has no constant template")
            for argument in node.args[1:]:
                text = isinstance(argument, ast.JoinedStr) or (
                    isinstance(argument, ast.Call) and ast.unparse(argument.func) in ("str", "repr")
                )
                if text or ast.unparse(argument).endswith("problem"):
                    found.append(f"{where} hands over text: {ast.unparse(argument)}")
    assert found == []


# --- the parts, played with marked players


CONTEXT = {"skill": 0.5, MARK: MARK}
GOOD = {"subject_id": MARK, "context": CONTEXT, "episode_id": MARK}
BAD = (
    {"subject_id": [MARK], "context": CONTEXT},
    {"subject_id": MARK, "context": {"skill": MARK}},
    {"subject_id": MARK, "context": MARK},
    GOOD | {"decision_id": MARK},
    GOOD | {"eligible_actions": [MARK]},
    GOOD | {"baseline_action": MARK},
    GOOD | {"items": [{"id": MARK}]},
    GOOD | {MARK: MARK},
)


def outcomes(decision_id: str) -> list[dict[str, Any]]:
    named = {"decision_id": decision_id, "outcome_id": MARK, "payload": {MARK: MARK}}
    return [
        named | {"name": MARK, "token": MARK},
        named | {"name": "won", "value": MARK},
        named | {"decision_id": MARK, "name": "won"},
        named | {"kind": "executed", "executed_action": MARK},
        named | {"kind": MARK},
        {MARK: MARK},
    ]


def play_serving(ask: Any) -> None:
    """Everything that a game can say, right and wrong. `ask(path, body)` → status"""
    assert ask("/decisions", GOOD) == 200
    for bad in BAD:
        assert ask("/decisions", bad) < 500
    assert ask("/decisions:batch", {"decisions": [GOOD, *BAD]}) == 200
    assert ask("/decisions", orjson.dumps(GOOD)[:-2]) == 422
    # some are right; where tokens are required, none is
    assert ask("/outcomes", {"outcomes": outcomes(uuid7())}) in (207, 422)
    assert ask(f"/{MARK}", {}) == 404
    assert ask("/policy:promote", {"by": MARK, "why": MARK, "version": 9}) == 409
    assert ask("/policy:kill", {"by": MARK, "why": MARK, MARK: MARK}) == 422
    assert ask("/policy:kill", {"by": MARK, "why": MARK}) == 200
    assert ask("/decisions", GOOD) == 200


class BrokenSpool(InMemorySpool):
    """Fails with what it was given in its words, as code may that nobody thought of."""

    def append(self, records: list[Record], *, always: bool = False) -> None:
        raise RuntimeError(f"cannot take {records}")


def marked_rules(context: Any) -> str:
    raise ValueError(f"no rule for {dict(context)}")


def test_serving_logs_nothing_of_a_player(tmp_path: Path, heard: Heard) -> None:
    server = Server(
        tmp_path,
        authenticator=Authenticator(()),
        tokens=OutcomeTokens(b"a secret of its own", "levels"),
    )
    headers = {"Authorization": f"Bearer {MARK}", "X-Player": MARK}
    with server.listening() as url, httpx.Client(base_url=url, headers=headers) as http:

        def ask(path: str, body: Any) -> int:
            content = body if isinstance(body, bytes) else orjson.dumps(body)
            answer = http.post(f"/v1/applications/levels{path}?player={MARK}", content=content)
            return answer.status_code

        play_serving(ask)
        server.spool.__class__ = BrokenSpool
        assert ask("/decisions", GOOD) == 500
    server.close()
    assert MARK in heard.plain  # Python's own would have said it
    assert any("RuntimeError" in line.get("exception", "") for line in heard.lines)
    heard.hold_no_player()


def test_what_serving_hears_and_sends_in_the_background_is_not_logged_either(
    tmp_path: Path, heard: Heard
) -> None:
    settings = Settings(home=tmp_path)
    server = Server(tmp_path)
    subscriber = Subscriber(settings, {"levels": server.served}, process="1")
    subscriber._hear(
        ConsumerRecord("policies", 0, at, 1, key, orjson.dumps(value))
        for at, (key, value) in enumerate(
            [
                (b"levels/control", {"application": "levels", "by": [MARK], "at_ms": 1}),
                (b"levels/control", {"application": MARK, "by": MARK, "why": MARK, "at_ms": 1}),
                (b"levels", {"application": "levels", "version": MARK, MARK: MARK}),
            ]
        )
    )
    spool = Spool(tmp_path / "own", limit_bytes=1 << 20)
    spool.append([Record(Topic.DECISIONS, b"key", orjson.dumps(GOOD))])

    class BrokenProducer:
        def send(self, topic: str, *, value: bytes, key: bytes) -> Any:
            raise ValueError(f"cannot send {value!r}")

        def close(self, timeout: float | None = None) -> None:
            pass

    publisher = Publisher(
        spool, topics={int(Topic.DECISIONS): "d"}, status_topic="s", producer=BrokenProducer
    )
    publisher.start()
    publisher.wake()
    wait_until(lambda: publisher.problem is not None, "the publisher is in trouble")
    publisher.stop(0.0)
    spool.close()
    server.close()
    assert MARK in str(publisher.problem)  # people may ask; a log is for everyone
    assert MARK in heard.plain
    assert sum("passed over" in line["message"] for line in heard.lines) == 3
    heard.hold_no_player()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_serving_process_writes_nothing_of_a_player(tmp_path: Path, log_format: Any) -> None:
    game = tmp_path / "game.py"
    game.write_text(
        "from bakehouse_schemas.application.application import *\n"
        "from bakehouse_schemas.application.observation import Numeric\n"
        "from bakehouse_schemas.application.reward import Reward\n"
        "def rules(context):\n"
        "    raise ValueError(f'no rule for {context}')\n"
        "application = Application(name='levels', observation=[Numeric('skill', low=0, high=1)],\n"
        "    actions=Discrete('easy', 'normal', 'hard'), baseline=rules,\n"
        "    reward=Reward({'won': 1.0}, window=minutes(1)))\n"
    )
    home = tmp_path / "home"
    settings = Settings(home=home, port=0, log_format=log_format, kafka_bootstrap="127.0.0.1:9")
    environment = {name: value for name, value in os.environ.items() if "BAKEHOUSE" not in name}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bakehouse_serving", str(game)],
            env=environment | settings.as_environment(),
            stdout=log,
            stderr=log,
        )
        try:
            told: dict[str, Any] = {}

            def is_ready() -> bool:
                assert process.poll() is None, (tmp_path / "log").read_text()
                told.update(PhaseFile(home, "serving").read() or {})
                return told.get("phase") == READY

            wait_until(is_ready, "serving is ready")
            with httpx.Client(base_url=told["url"], headers={"X-Player": MARK}) as http:

                def ask(path: str, body: Any) -> int:
                    content = body if isinstance(body, bytes) else orjson.dumps(body)
                    return http.post(f"/v1/applications/levels{path}", content=content).status_code

                play_serving(ask)
                http.get("/", headers={"Upgrade": "websocket", "Connection": f"Upgrade, {MARK}"})
        finally:
            process.terminate()
            process.wait(30)
    written = (tmp_path / "log").read_text()
    assert MARK not in written
    assert "events are still in the spool" in written
    if log_format == "json":
        lines = [json.loads(line) for line in written.splitlines()]
        assert {line["part"] for line in lines} == {"serving"}
    else:
        assert not written.startswith("{")


def test_stream_logs_nothing_of_a_player(tmp_path: Path, heard: Heard) -> None:
    decoder = Decoder({APPLICATION.name: APPLICATION}, "decisions")
    refused = []
    bad = [
        decision(subject_id=[MARK]),
        decision(context={"skill": MARK}, observation=None),
        decision(context=MARK),
        decision(action=MARK),
        decision(decision_id=MARK),
        decision(**{MARK: MARK}),
        decision(subject_id=MARK, episode_id=MARK, baseline_action=MARK),
    ]
    for at, event in enumerate([decision(subject_id=MARK, context={"skill": 0.5, MARK: 1}), *bad]):
        value, now_ms = orjson.dumps(event), event["decided_at_ms"]
        refused += decoder.single(KafkaRecord("decisions", 0, at, now_ms, MARK.encode(), value))
    for at, event in enumerate(outcomes(uuid7())):
        value = orjson.dumps(outcome(uuid7()) | event)
        refused += decoder.single(KafkaRecord("outcomes", 0, at, 0, MARK.encode(), value))
    reasons = [row["quarantined"]["reason"] for row in refused if "quarantined" in row]
    assert sum(MARK in reason for reason in reasons) > 5  # the table says it, where it belongs
    rig = Rig(tmp_path)
    rig.restarts.check()
    rig.query.die(RuntimeError(f"cannot decode {reasons}"))
    wait_until(rig.woken.is_set, "the death is noticed")
    rig.restarts.check()
    assert MARK in str(rig.restarts.problem)
    assert any("the query ended" in line["message"] for line in heard.lines)
    assert MARK in heard.plain
    heard.hold_no_player()


class QuotingAgent(LinearAgent):
    def train(self, batch: Any) -> dict[str, float]:
        raise ValueError(f"cannot train on what {MARK} did")


def test_the_learner_logs_nothing_of_a_player(tmp_path: Path, heard: Heard) -> None:
    marked = Application(
        name="game",
        observation=list(GAME.observation),
        actions=GAME.actions,
        reward=GAME.reward,
        baseline=marked_rules,
        training=GAME.training,
    )
    play = Play(tmp_path)
    loop = play.loop(QuotingAgent)
    loop.start()
    play.second(loop)
    assert "ValueError" in str(loop.status()["problem"])
    rows = [
        row(GAME, {"x": 0.5}, "left", subject_id=MARK, baseline_action=None) | changes
        for changes in (
            {"context": json.dumps({"x": 0.5, MARK: MARK})},
            {"context": json.dumps({"x": MARK}), "observation": None},
            {"context": MARK},
            {"action": MARK},
            {"action": json.dumps(MARK)},
            {"eligible_actions": json.dumps([MARK])},
            {"exploration": MARK},
        )
    ]
    decoder = RowDecoder(marked)
    decoder.decode(arrow(rows))
    assert decoder.refused > 1
    bus = KafkaBus(Settings(home=tmp_path), process="1")
    for value in ({"application": "game", "by": [MARK]}, {MARK: MARK}):
        record = ConsumerRecord("policies", 0, 0, 1, b"game/control", orjson.dumps(value))
        bus._hear(record, of_progress=False)
    assert sum("passed over" in line["message"] for line in heard.lines) == 2
    failed = [line for line in heard.lines if "a turn failed" in line["message"]]
    assert failed[0]["application"] == "game"
    assert MARK in heard.plain
    heard.hold_no_player()


def test_the_set_up_replaces_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    root, to = logging.getLogger(), io.StringIO()
    before, level = root.handlers[:], root.level
    hooks = ("excepthook", "unraisablehook")
    kept = {name: getattr(sys, name) for name in hooks}
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    quiet = {name: logging.getLogger(name).level for name in QUIET}
    try:
        set_up_logs("learner", "text", to=to)
        set_up_logs("learner", "json", to=to)
        logging.getLogger("learner").info("once")
        (line,) = to.getvalue().splitlines()
        assert json.loads(line)["message"] == "once"
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        logging.captureWarnings(False)
        for name, hook in kept.items():
            setattr(sys, name, hook)
        for name, was in quiet.items():
            logging.getLogger(name).setLevel(was)
