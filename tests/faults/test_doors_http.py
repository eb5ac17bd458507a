"""Whatever comes over HTTP gets an answer that is documented; what is refused changes nothing.

First the description: schemathesis makes requests from it, right ones and wrong ones, and holds
the answers against it. Then what no description leads to, by hand, against a real process.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core import NotSet

from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.phase import READY, PhaseFile
from bakehouse_schemas.process.settings import Settings
from bakehouse_serving.app import make_app
from bakehouse_serving.dashboard.live import Live
from bakehouse_serving.dashboard.view import DashboardSettings
from bakehouse_serving.explain.client import Answered, ExplainerClient
from bakehouse_serving.openapi import describe
from bakehouse_serving.server import Process, build
from tests.shapes import items, shaped
from tests.unit.test_decide import make_application
from tests.unit.test_serving_http import LEVELS, Server
from tests.waiting import wait_until

APPLICATIONS = [make_application(), shaped("continuous"), shaped("parts"), shaped("ranking")]
KEY = "one-key-for-everything"
KEYS = f"decide+outcome+admin:{KEY}"
MOST_BODY = 100_000

load_all_checks()
HELD = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "unsupported_method",
        "allow_header_conformance",
    ]
)
NEGATIVE = CHECKS.get_one("negative_data_rejection")
NO_SERVER_ERROR = CHECKS.get_one("not_a_server_error")
KEYS_HELD = [*HELD, CHECKS.get_one("ignored_auth")]


# --- from the description


def document(*, locked: bool) -> dict[str, Any]:
    """What `/openapi.json` will say, known before anything is built: tests are made from it."""
    nobody: Any = None
    live = Live(nobody, {}, DashboardSettings(5.0, None, None))
    app = make_app({}, report=nobody, live=live, spool=nobody, most_body_bytes=0)
    return describe(app, applications=sorted(one.name for one in APPLICATIONS), requires_key=locked)


class Front:
    """Stands for a process that is built once the tests run."""

    def __init__(self) -> None:
        self.behind: Any = None

    async def __call__(self, *asgi: Any) -> None:
        await self.behind(*asgi)


def described(front: Front, *, locked: bool) -> Any:
    schema = schemathesis.openapi.from_dict(document(locked=locked))
    schema.app = front
    return schema


FRONT, FRONT_LOCKED = Front(), Front()
schema = described(FRONT, locked=False)
schema_locked = described(FRONT_LOCKED, locked=True)


def composed(front: Front, home: Path, **more: Any) -> Iterator[Process]:
    """All of serving but the socket: what `python -m serving` builds, in this process."""
    thresholds = gc.get_threshold()
    process = build(Settings(home=home, max_body_bytes=MOST_BODY, **more), APPLICATIONS)
    front.behind = process.hot
    yield process
    for cache in process.idempotency_caches:
        cache.close()
    process.spool.close()
    process.folder_lock.release()
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.fixture(scope="module")
def unlocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    yield from composed(FRONT, tmp_path_factory.mktemp("unlocked"))


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    home = tmp_path_factory.mktemp("locked")
    yield from composed(FRONT_LOCKED, home, api_keys=KEYS, outcome_tokens="required")


def state(process: Process) -> tuple[Any, ...]:
    """What a refused request must leave as it was."""
    told = []
    for name, served in process.report._served.items():
        kept = process.settings.home / "serving" / f"{name}.json"
        words = kept.read_bytes() if kept.exists() else None
        told.append((served.slot, served.control, tuple(served.history), words))
    remembered = [len(cache) for cache in process.idempotency_caches]
    return process.spool.appended, process.spool.bytes_on_disk, remembered, told


def hold(process: Process, case: schemathesis.Case, held: list[Any], **call: Any) -> None:
    """As it was made, and where it has a context, with one that fits as well."""
    made = case.body
    for body in bodies(made):
        case.body = body
        before = state(process)
        response = case.call(**call)
        if response.status_code >= 400:
            assert state(process) == before
        # what is wrong with a body may be what was put right
        left_out = [] if body is made and refuses_whole(case) else [NEGATIVE]
        if response.status_code == 501:  # what is built here has no application's file to explain
            left_out.append(NO_SERVER_ERROR)
        case.validate_response(
            response, checks=held, excluded_checks=left_out, transport_kwargs=call
        )


def refuses_whole(case: schemathesis.Case) -> bool:
    """Whether a request that violates the schema must be a 4xx.

    The lists answer entry by entry, and a control without a body is one without a reason.
    """
    in_entries = case.path.endswith(("/decisions:batch", "/outcomes"))
    return not in_entries and not isinstance(case.body, NotSet)


def bodies(body: Any) -> Iterator[Any]:
    yield body
    if isinstance(body, dict) and isinstance(body.get("context"), dict):
        yield body | {"context": {"skill": 0.5}}
        yield body | {"context": {"skill": 0.5}, "decision_id": uuid7()}
        ranked = {"subject_id": "p", "context": {"skill": 0.5}, "items": items(4)}
        yield ranked
        yield ranked | {"eligible_actions": ["item-1", "item-3"], "baseline_action": ["item-3"]}


LIMITS = settings(
    max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@schema.parametrize()
@LIMITS
def test_every_answer_is_documented_and_a_refused_request_changes_nothing(
    case: schemathesis.Case, unlocked: Process
) -> None:
    hold(unlocked, case, HELD)


@schema_locked.parametrize()
@LIMITS
def test_so_it_is_where_keys_and_tokens_are_required(
    case: schemathesis.Case, locked: Process
) -> None:
    hold(locked, case, KEYS_HELD, headers={"Authorization": f"Bearer {KEY}"})


def test_the_requests_were_made_from_what_is_served(unlocked: Process, locked: Process) -> None:
    for process in (unlocked, locked):
        served = schemathesis.openapi.from_asgi("/openapi.json", process.hot)
        assert served.raw_schema == document(locked=process is locked)


def test_the_requests_were_not_all_refused(unlocked: Process) -> None:
    """Runs last of these: what is made from the description gets past the doors, too."""
    assert unlocked.spool.appended > 0
    figures = {name: one.counters for name, one in unlocked.report._served.items()}
    assert {name for name, counted in figures.items() if counted.decisions} == set(figures)


# --- by hand, against a real process

DECISIONS = b"/v1/applications/levels/decisions"
ASK = b'{"subject_id":"p","context":{"skill":0.5}}'
GAME = """
from bakehouse import *

application = Application(
    name="levels",
    observation=[Numeric("skill", low=0, high=1)],
    actions=Discrete("easy", "normal", "hard"),
    reward=Reward({"won": 1.0}, window=minutes(1)),
    baseline=lambda context: "normal",
)
"""


class Serving:
    """`python -m serving` on a port of its own, and raw bytes to it."""

    def __init__(self, process: subprocess.Popen[bytes], home: Path, port: int) -> None:
        self.process, self.home, self.port = process, home, port

    def send(self, *parts: bytes) -> bytes:
        """All that it answers until it closes; the last answer, 200, is to a request for that."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as client:
            answer = b""
            with contextlib.suppress(ConnectionError):  # it has closed; what it said is kept
                for part in (*parts, request(b"GET", b"/livez", b"Connection: close")):
                    client.sendall(part)
            with contextlib.suppress(ConnectionError):
                while more := client.recv(1 << 16):
                    answer += more
            return answer

    def status(self) -> dict[str, Any]:
        answer = self.send(request(b"GET", b"/v1/status", b"Connection: close"))
        told: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])["serving"]
        return told

    def state(self) -> dict[str, Any]:
        """What a refused request must leave as it was."""
        told, application = self.status(), self.status()["applications"]["levels"]
        kept = self.home / "serving" / "levels.json"
        return {
            "decisions": told["decisions"],
            "outcomes": told["outcomes"],
            "spool": (told["spool"]["events"], told["spool"]["bytes"]),
            "policy": [application[name] for name in ("policy_version", "killed", "frozen")],
            "kept": kept.read_bytes() if kept.exists() else None,
        }


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("serving")
    home, game = folder / "home", folder / "game.py"
    game.write_text(GAME)
    environment = {name: value for name, value in os.environ.items() if "BAKEHOUSE" not in name}
    environment |= Settings(home=home, port=0, max_body_bytes=MOST_BODY).as_environment()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bakehouse_serving", str(game)], env=environment, stderr=log
        )
        try:
            announced: dict[str, Any] = {}

            def is_ready() -> bool:
                assert process.poll() is None, (folder / "log").read_text()
                announced.update(PhaseFile(home, "serving").read() or {})
                return announced.get("phase") == READY

            wait_until(is_ready, "serving is ready")
            yield Serving(process, home, int(announced["url"].rpartition(":")[2]))
        finally:
            process.terminate()
            process.wait(timeout=30)
    said = (folder / "log").read_text()
    assert "Traceback" not in said, said
    assert process.returncode == 0


def post(path: bytes, body: bytes, *headers: bytes) -> bytes:
    return request(b"POST", path, b"Content-Length: %d" % len(body), *headers) + body


def request(method: bytes, path: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join((method + b" " + path + b" HTTP/1.1", b"Host: x", *headers, b"", b""))


def chunked(*chunks: bytes) -> bytes:
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return request(b"POST", DECISIONS, b"Transfer-Encoding: chunked") + framed


ENTRY = b'{"decision_id":"0199aaaa-0000-7000-8000-000000000000","name":"won"}'
OUTCOMES, BATCH = b"/v1/applications/levels/outcomes", DECISIONS + b":batch"
KILL = b"/v1/applications/levels/policy:kill"
DEEP = b'{"subject_id":"p","context":{"skill":0.5,"x":' + b"[" * 40_000 + b"]" * 40_000 + b"}}"
NASTY: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "a huge body": (post(DECISIONS, b" " * (8 << 20)), (413,)),
    "a huge control": (post(KILL, b" " * (8 << 20)), (413,)),
    "a huge body in chunks": (chunked(*[b" " * 65_536] * 64, b""), (413,)),
    "a hundred thousand headers": (request(b"GET", b"/livez", *[b"a: b"] * 100_000), (431,)),
    "a header of 8 MiB": (request(b"GET", b"/livez", b"a: " + b"b" * (8 << 20)), (431,)),
    "a path of 1 MiB": (request(b"GET", b"/" + b"a" * (1 << 20)), (431,)),
    "not UTF-8": (post(DECISIONS, b"\xff\xfe" + ASK), (422,)),
    "NaN": (post(DECISIONS, ASK.replace(b"0.5", b"NaN")), (422,)),
    "infinity": (post(DECISIONS, ASK.replace(b"0.5", b"-Infinity")), (422,)),
    "1e999": (post(DECISIONS, ASK.replace(b"0.5", b"1e999")), (422,)),
    "an integer of 90,000 digits": (post(DECISIONS, ASK.replace(b"0.5", b"9" * 90_000)), (422,)),
    "nested 40,000 deep": (post(DECISIONS, DEEP), (422,)),
    "a lone surrogate": (post(DECISIONS, ASK.replace(b'"p"', b'"\\ud800"')), (422,)),
    "a key twice": (post(DECISIONS, ASK.replace(b"{", b'{"subject_id":"q",', 1)), (422,)),
    "5,001 decisions": (post(BATCH, b'{"decisions":[' + b"1," * 5_000 + b"1]}"), (422,)),
    "5,001 outcomes": (post(OUTCOMES, b'{"outcomes":[' + b"1," * 5_000 + b"1]}"), (422,)),
    "a hundred trailers": (chunked(ASK) + b"0\r\n" + b"a: b\r\n" * 100 + b"\r\n", (431,)),
    "a trailer of 1 MiB": (chunked(ASK) + b"0\r\na: " + b"b" * (1 << 20), (431,)),
    "a chunk of 1 MiB of notes": (chunked() + b"1;" + b"b" * (1 << 20), (431,)),
    "no body": (post(DECISIONS, b""), (422,)),
    "an empty control list": (post(KILL, b"[]"), (422,)),
    "PUT": (request(b"PUT", DECISIONS, b"Content-Length: 0"), (405,)),
    "DELETE": (request(b"DELETE", KILL), (405,)),
    "TRACE": (request(b"TRACE", DECISIONS), (405,)),
    "a method of its own": (request(b"BREW", DECISIONS), (400, 405)),
    "CONNECT": (request(b"CONNECT", b"example.com:443"), (400, 404, 405)),
    "a path out of the folder": (
        post(b"/v1/applications/../../../../etc/passwd/decisions", ASK),
        (404,),
    ),
    "the same, encoded": (
        post(b"/v1/applications/..%2f..%2fetc%2fpasswd/policy:kill", b"{}"),
        (404,),
    ),
    "an application named ..": (post(b"/v1/applications/../policy:kill", b"{}"), (404,)),
    "an application named NUL": (post(b"/v1/applications/%00/policy:kill", b"{}"), (404,)),
    "an application of 60,000 signs": (
        post(b"/v1/applications/" + b"a" * 60_000 + b"/policy:kill", b"{}"),
        (431,),
    ),
    "a chunk that is no number": (
        request(b"POST", DECISIONS, b"Transfer-Encoding: chunked") + b"zz\r\nx\r\n",
        (400,),
    ),
    "a content-length of 10^30": (
        request(b"POST", DECISIONS, b"Content-Length: 1" + b"0" * 30),
        (400,),
    ),
    "a negative content-length": (request(b"POST", DECISIONS, b"Content-Length: -1"), (400,)),
    "two content-lengths": (
        request(b"POST", DECISIONS, b"Content-Length: 42", b"Content-Length: 1") + ASK,
        (400,),
    ),
    "length and chunks (smuggling)": (
        request(b"POST", DECISIONS, b"Content-Length: 42", b"Transfer-Encoding: chunked") + ASK,
        (400,),
    ),
    "no HTTP at all": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), (400,)),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400,)),
    "an upgrade": (
        request(b"GET", b"/nowhere", b"Connection: upgrade, close", b"Upgrade: websocket"),
        (404,),
    ),
    "a web page of a stranger": (post(KILL, b"{}", b"Origin: https://evil.example"), (403,)),
}


@pytest.mark.parametrize(("sent", "statuses"), NASTY.values(), ids=NASTY)
def test_what_no_game_sends_is_refused_and_changes_nothing(
    serving: Serving, sent: bytes, statuses: tuple[int, ...]
) -> None:
    before = serving.state()
    answer = serving.send(sent)
    first, *rest = answers(answer)
    assert first in statuses, answer[:300]
    assert rest in ([], [200])  # it closed, or went on with the request after it
    assert serving.state() == before
    assert answers(serving.send(post(DECISIONS, ASK))) == [200, 200]


def answers(received: bytes) -> list[int]:
    """The status of each answer on a connection."""
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


def test_a_body_in_chunks_is_a_body(serving: Serving) -> None:
    assert answers(serving.send(chunked(ASK[:7], ASK[7:8], ASK[8:], b""))) == [200, 200]


def test_requests_in_one_go_are_answered_in_order_and_a_bad_one_spoils_no_other(
    serving: Serving,
) -> None:
    before = serving.state()["decisions"]
    sent = [post(DECISIONS, ASK), post(DECISIONS, b"{"), request(b"GET", b"/nowhere")]
    assert answers(serving.send(b"".join(sent * 20))) == [200, 422, 404] * 20 + [200]
    assert serving.state()["decisions"] == before + 20


def test_what_follows_a_refused_body_is_not_taken_for_a_request(serving: Serving) -> None:
    """The rest of a body that is too large is passed over, not read as the next request."""
    hidden = post(KILL, b"{}")
    body = b" " * (MOST_BODY + 1) + hidden
    assert answers(serving.send(post(DECISIONS, body))) == [413, 200]
    stranger = post(KILL, hidden, b"Origin: https://evil.example")
    assert answers(serving.send(stranger)) == [403, 200]
    assert not serving.status()["applications"]["levels"]["killed"]


FLOODS = {
    "a field without end": (request(b"GET", b"/livez", b"a: b")[:-4], b"b"),
    "fields without end": (request(b"GET", b"/livez", b"a: b")[:-2], b"x: y\r\n"),
    "an address without end": (b"GET /", b"a"),
    "trailers without end": (chunked(ASK, b"")[:-2], b"x: y\r\n"),
    "a trailer without end": (chunked(ASK, b"")[:-2] + b"x: ", b"y"),
    "notes on a chunk without end": (chunked(ASK) + b"1;", b"x"),
    "empty lines without end": (b"", b"\r\n"),
}


@pytest.mark.parametrize(("begin", "more"), FLOODS.values(), ids=FLOODS)
def test_heads_that_never_end_take_no_memory(serving: Serving, begin: bytes, more: bytes) -> None:
    before, memory = serving.state(), psutil.Process(serving.process.pid).memory_info
    at_first = memory().rss
    flood, most = more * ((1 << 20) // len(more)), at_first
    with socket.create_connection(("127.0.0.1", serving.port), timeout=30) as client:
        answer = b""
        with contextlib.suppress(ConnectionError):
            client.sendall(begin)
            for _ in range(40):
                client.sendall(flood)
                most = max(most, memory().rss)
            raise AssertionError("40 MiB of a head were heard")
        with contextlib.suppress(ConnectionError):
            while came := client.recv(1 << 16):
                answer += came
    assert answers(answer) == [431]
    assert b"application/problem+json" in answer
    assert most - at_first < 16 << 20
    assert serving.state() == before


def test_thousands_of_requests_in_one_go_take_no_memory_while_they_wait_for_their_turn(
    serving: Serving,
) -> None:
    memory = psutil.Process(serving.process.pid).memory_info
    at_first, sent = memory().rss, request(b"GET", b"/livez") * 6_000
    with contextlib.ExitStack() as clients:
        for _ in range(10):
            client = clients.enter_context(
                socket.create_connection(("127.0.0.1", serving.port), timeout=30)
            )
            client.sendall(sent)
        assert answers(serving.send(post(DECISIONS, ASK))) == [200, 200]
        assert memory().rss - at_first < 64 << 20


def test_a_client_that_goes_away_in_the_middle_of_a_body_changes_nothing(serving: Serving) -> None:
    before = serving.state()
    whole = post(DECISIONS, ASK)
    for end in (len(whole) - 1, len(whole) - len(ASK), 30):
        with socket.create_connection(("127.0.0.1", serving.port), timeout=30) as client:
            client.sendall(whole[:end])
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
    assert serving.state() == before


def test_bodies_that_never_end_hold_up_nobody(serving: Serving) -> None:
    begun = request(b"POST", DECISIONS, b"Content-Length: 1000") + b'{"subject_id":'
    slow = [socket.create_connection(("127.0.0.1", serving.port)) for _ in range(200)]
    try:
        for client in slow:
            client.sendall(begun)
        assert answers(serving.send(post(DECISIONS, ASK))) == [200, 200]
    finally:
        for client in slow:
            client.close()


class Hanging(ExplainerClient):
    """Reads tables for as long as a test wants."""

    def __init__(self, home: Path) -> None:
        super().__init__(Settings(home=home), ["game.py"])
        self.goes_on = threading.Event()

    def ask(self, application: str, decision_id: str) -> Answered:
        assert self.goes_on.wait(120)
        return Answered(404, {"detail": f"no table of {application} holds {decision_id}"})


def test_who_waits_for_explanations_holds_up_neither_kill_nor_health(tmp_path: Path) -> None:
    """Two questions at a time; the others are told at once to ask again."""
    explainer = Hanging(tmp_path)
    server = Server(tmp_path, explainer=explainer)
    with (
        server.listening() as url,
        httpx.Client(base_url=url, trust_env=False, timeout=120, limits=httpx.Limits()) as http,
        ThreadPoolExecutor(100) as players,
    ):
        asked = f"{LEVELS}/decisions/{uuid7()}"
        waiting = [players.submit(http.get, asked) for _ in range(100)]
        wait_until(lambda: sum(one.done() for one in waiting) == 98, "all but two are answered")
        refused = [one.result() for one in waiting if one.done()]
        assert {answer.status_code for answer in refused} == {429}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
        for path in ("/livez", "/readyz", "/metrics"):
            assert http.get(path).status_code == 200
        killed = http.post(f"{LEVELS}/policy:kill", json={}).json()
        assert killed["control"]["killed"] and killed["kept"]
        assert sum(one.done() for one in waiting) == 98
        explainer.goes_on.set()
        assert sorted(one.result().status_code for one in waiting) == [404] * 2 + [429] * 98
        assert http.get(asked).status_code == 404  # it is their turn now
    server.close()


def test_a_kill_is_answered_though_the_disk_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    server = Server(tmp_path)
    monkeypatch.setattr(
        "bakehouse_serving.policies.state_file.os.fsync", lambda _: goes_on.wait(60)
    )
    monkeypatch.setattr("bakehouse_serving.control_routes.KEPT_WITHIN_S", 0.05)
    try:
        with server.listening() as url:
            said = httpx.post(f"{url}{LEVELS}/policy:kill", json={}, trust_env=False).json()
            assert said["control"]["killed"] is True and said["kept"] is False
            assert "still asked to" in said["not_kept"]
            decided = httpx.post(f"{url}{LEVELS}/decisions", content=ASK, trust_env=False).json()
            assert (decided["action"], decided["propensity"]) == ("normal", 1.0)
    finally:
        goes_on.set()
        server.close()
