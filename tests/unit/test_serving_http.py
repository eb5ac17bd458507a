from __future__ import annotations

import asyncio
import http.client
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import pytest
import uvicorn

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.events import validation
from bakehouse_schemas.events.records import read_decision, read_order, read_outcome
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.logs import message_of
from bakehouse_schemas.process.settings import Settings
from bakehouse_serving.api_keys import Authenticator
from bakehouse_serving.app import make_app
from bakehouse_serving.dashboard.live import Live
from bakehouse_serving.dashboard.status import StatusReport
from bakehouse_serving.dashboard.view import dashboard_settings
from bakehouse_serving.explain.client import ExplainerClient
from bakehouse_serving.hot.idempotency import IdempotencyCache
from bakehouse_serving.hot.one_write import OneWriteProtocol
from bakehouse_serving.hot.outcome_tokens import OutcomeTokens
from bakehouse_serving.hot.request_timeout import RequestTimeout
from bakehouse_serving.hot.route import Route
from bakehouse_serving.hot.routes import HotRoutes, Receive, Scope, Send
from bakehouse_serving.policies.served import Served
from bakehouse_serving.spool.frames import Topic
from bakehouse_serving.spool.spool import Spool
from tests.fakes import InMemorySpool, publish_policy
from tests.unit.test_decide import make_application
from tests.waiting import wait_until

LEVELS = "/v1/applications/levels"
ASK = {"subject_id": "p1", "context": {"skill": 0.2}}
MOST_BODY = 20_000


class Uvicorn(uvicorn.Server):
    """One that tells its loop."""

    loop: asyncio.AbstractEventLoop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets=sockets)


class Server:
    """The whole ASGI application, without a socket and without Kafka."""

    def __init__(
        self,
        folder: Path,
        application: Application | None = None,
        *,
        authenticator: Authenticator | None = None,
        tokens: OutcomeTokens | None = None,
        tracer: Any = None,
        explainer: ExplainerClient | None = None,
    ) -> None:
        authenticator = authenticator or Authenticator()
        self.application = application or make_application()
        self.policies = folder / "policies"
        self.connections: set[Any] = set()  # while it listens
        self.served = Served(
            self.application,
            policies=self.policies,
            cache=folder / "serving" / "levels.json",
            tracer=tracer,
        )
        self.served.restore()
        self.spool = InMemorySpool()
        self.memory = IdempotencyCache(
            self.application.actions, folder=folder / "answers", span_s=600
        )

        async def beyond(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)

        self.hot = HotRoutes(
            beyond,
            {"levels": Route(self.served, self.memory, tokens)},
            spool=self.spool,
            authenticator=authenticator,
            draw=random.Random(0).random,
            most_body_bytes=MOST_BODY,
            most_record_bytes=3 * MOST_BODY,
            tracer=tracer,
        )
        applications = {"levels": self.served}
        self.disk = Spool(folder / "spool", limit_bytes=1 << 20)
        report = StatusReport(
            "0",
            served=applications,
            hot=self.hot,
            spool=self.disk,
            publisher=None,
            subscriber=None,
        )
        self.report = report
        self.live = Live(report, applications, dashboard_settings(Settings(home=folder)))
        app = make_app(
            applications,
            report,
            live=self.live,
            spool=self.spool,
            most_body_bytes=MOST_BODY,
            explainer=explainer,
            authenticator=authenticator,
        )

    def request(
        self, method: str, path: str, content: Any = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.hot, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://bakehouse") as http:
                body = content if isinstance(content, bytes) else orjson.dumps(content)
                return await http.request(
                    method, path, content=None if content is None else body, headers=headers
                )

        return asyncio.run(ask())

    def post(
        self, path: str, content: Any = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        return self.request("POST", LEVELS + path, content, headers)

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Its address, while it listens on a port of this machine."""
        config = uvicorn.Config(
            self.hot, port=0, lifespan="off", log_config=None, http=OneWriteProtocol
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            running = Uvicorn(config)
            thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
            thread.start()
            wait_until(lambda: running.started, "the server listens")
            self.connections = running.server_state.connections
            self._loop = running.loop
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                running.should_exit = True
                thread.join()

    def look(self, request_timeout: RequestTimeout, now: float) -> int:
        """As serving does: on the thread whose connections they are."""

        async def look() -> int:
            return request_timeout.look(self.connections, now)

        return asyncio.run_coroutine_threadsafe(look(), self._loop).result(30)

    def close(self) -> None:
        self.memory.close()
        self.disk.close()


@pytest.fixture
def server(tmp_path: Path) -> Any:
    server = Server(tmp_path)
    yield server
    server.close()


def is_problem(response: httpx.Response, status: int) -> str:
    """The detail of an RFC 9457 problem."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    said = response.json()
    assert set(said) == {"type", "title", "status", "detail", "remains"}
    assert said["status"] == status
    return str(said["detail"])


def test_a_decision_is_spooled_with_the_probability_that_it_was_answered_with(
    server: Server,
) -> None:
    answered = server.post("/decisions", ASK).json()
    assert set(answered) == {
        "decision_id",
        "action",
        "propensity",
        "policy_version",
        "mode",
        "cohort",
        "explored",
        "logged",
    }
    [event] = server.spool.events(Topic.DECISIONS)
    assert {name: event[name] for name in answered if name != "logged"} == {
        name: value for name, value in answered.items() if name != "logged"
    }
    assert answered["logged"] is True
    [record] = server.spool.records
    assert record.key.decode() == answered["decision_id"]
    read_decision(
        record.value, {"levels": server.application}, received_at_ms=event["decided_at_ms"]
    )


def test_all_that_a_game_may_send_is_kept_in_the_event(server: Server) -> None:
    given = ASK | {
        "decision_id": uuid7(),
        "previous_decision_id": uuid7(),
        "episode_id": "e1",
        "eligible_actions": ["easy", "hard"],
        "baseline_action": "easy",
        "items": [{"id": 1}],
    }
    assert server.post("/decisions", given).status_code == 200
    [event] = server.spool.events(Topic.DECISIONS)
    assert {name: event[name] for name in given} == given


def test_a_repeated_decision_id_gets_the_same_answer_and_is_logged_once(
    server: Server, tmp_path: Path
) -> None:
    given = ASK | {"decision_id": uuid7()}
    first = server.post("/decisions", given).json()
    for _ in range(10):
        assert server.post("/decisions", given).json() == first
    publish = publish_policy(server.policies, server.application, 1, favourite=2, epsilon=0.05)
    server.served.point([publish], live=True)
    assert server.post("/decisions", given).json() == first
    assert len(server.spool.records) == 1
    server.memory.flush()  # as each second
    again = Server(tmp_path)  # the process was killed; the home is the same
    assert again.post("/decisions", given).json() == first
    assert again.spool.records == []
    again.close()


def test_a_decision_id_of_another_subject_is_a_409_without_its_answer_also_after_a_restart(
    server: Server, tmp_path: Path
) -> None:
    given = ASK | {"decision_id": uuid7()}
    first = server.post("/decisions", given).json()
    other = given | {"subject_id": "p2"}
    own = ASK | {"subject_id": "p2", "decision_id": uuid7()}

    def is_refused_by(asked: Server) -> None:
        detail = is_problem(asked.post("/decisions", other), 409)
        assert given["decision_id"] in detail
        assert "p1" not in detail
        answered = asked.post("/decisions:batch", {"decisions": [own, other, given]})
        assert answered.status_code == 200
        good, refused, again = answered.json()["decisions"]
        assert good["decision_id"] == own["decision_id"]
        assert list(refused) == ["problem"]
        assert refused["problem"]["status"] == 409
        assert again == first

    is_refused_by(server)
    assert len(server.spool.records) == 2
    server.memory.flush()  # as each second
    restarted = Server(tmp_path)  # the process was killed; the home is the same
    is_refused_by(restarted)
    assert restarted.spool.records == []
    restarted.close()


def test_an_id_twice_within_one_batch_is_the_first_subjects(server: Server) -> None:
    first = ASK | {"decision_id": uuid7()}
    entries = [first, first | {"subject_id": "p2"}, first]
    one, other, again = server.post("/decisions:batch", {"decisions": entries}).json()["decisions"]
    assert other["problem"]["status"] == 409
    assert again == one
    [event] = server.spool.events(Topic.DECISIONS)
    assert event["subject_id"] == "p1"


def test_an_answer_can_be_asked_for_again_by_the_id_that_the_server_gave(server: Server) -> None:
    first = server.post("/decisions", ASK).json()
    assert server.post("/decisions", ASK | {"decision_id": first["decision_id"]}).json() == first


def test_a_batch_gets_one_result_each_in_order_and_bad_ones_spoil_nothing(server: Server) -> None:
    ids = [uuid7() for _ in range(150)]
    entries: list[Any] = [ASK | {"decision_id": one} for one in ids]
    entries[1] = {"context": {}}
    entries[70] = 3
    entries[149] = entries[148]
    response = server.post("/decisions:batch", {"decisions": entries})
    assert response.status_code == 200
    results = response.json()["decisions"]
    assert len(results) == 150
    assert "subject_id" in results[1]["problem"]["detail"]
    assert "expected an object" in results[70]["problem"]["detail"]
    assert results[149] == results[148]
    good = [at for at in range(149) if at not in (1, 70)]
    assert [results[at]["decision_id"] for at in good] == [ids[at] for at in good]
    assert [record.key.decode() for record in server.spool.records] == [ids[at] for at in good]


def test_an_id_twice_within_one_batch_is_one_decision(server: Server) -> None:
    one = ASK | {"decision_id": uuid7()}
    first, second = server.post("/decisions:batch", {"decisions": [one, one]}).json()["decisions"]
    assert first == second
    assert len(server.spool.records) == 1


def test_outcomes_are_accepted_one_by_one_and_spooled_under_their_decision(server: Server) -> None:
    decision_id = uuid7()
    response = server.post(
        "/outcomes",
        {
            "outcomes": [
                {"decision_id": decision_id, "name": "won", "value": 1, "outcome_id": "o1"},
                {"decision_id": "non\nsense", "name": "won"},
                {"decision_id": decision_id, "kind": "executed", "executed_action": "hard"},
                {"decision_id": decision_id, "kind": "executed", "executed_action": "brutal"},
                {"decision_id": decision_id, "kind": "activated"},
                {"decision_id": decision_id, "kind": "end", "occurred_at_ms": 5},
                {"decision_id": decision_id, "name": "won", "outcome_id": "next:1"},
                {"decision_id": decision_id},
            ]
        },
    )
    assert response.status_code == 207  # some were rejected
    assert response.json()["accepted"] == 4
    assert [one["index"] for one in response.json()["rejected"]] == [1, 3, 6, 7]
    kinds = []
    for record in server.spool.records:
        assert record.key.decode() == decision_id
        kinds.append(read_outcome(record.value, {"levels": server.application}).kind)
    assert kinds == ["reward", "executed", "activated", "end"]
    events = server.spool.events(Topic.OUTCOMES)
    assert events[0]["outcome_id"] == "o1"
    assert len({event["outcome_id"] for event in events}) == 4
    assert events[3]["occurred_at_ms"] == 5


def test_a_request_of_which_every_outcome_was_rejected_is_refused_and_lists_them(
    server: Server,
) -> None:
    wrong = {"decision_id": uuid7(), "name": "won", "value": "4.99"}
    refused = server.post("/outcomes", {"outcomes": [wrong, 1]})
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    said = refused.json()
    assert said["remains"].startswith("nothing was recorded")
    assert (said["accepted"], said["notes"]) == (0, [])
    assert [one["index"] for one in said["rejected"]] == [0, 1]
    assert "no outcome was accepted; the first: value: " in said["detail"]
    assert server.spool.records == []
    assert (server.served.counters.rejected, server.served.counters.invalid) == (2, 0)
    nothing = server.post("/outcomes", {"outcomes": []})
    assert nothing.status_code == 202
    assert nothing.json() == {"accepted": 0, "rejected": [], "notes": []}


def test_with_a_full_spool_decisions_are_the_baselines_and_outcomes_are_to_be_sent_again(
    server: Server,
) -> None:
    pointer = publish_policy(server.policies, server.application, 1, favourite=0)
    server.served.point([pointer], live=True)
    server.spool.full = True
    answered = server.post("/decisions", ASK).json()
    assert (answered["logged"], answered["action"], answered["propensity"]) == (False, "normal", 1)
    assert (answered["cohort"], answered["policy_version"]) == ("fallback", 0)
    outcome = {"decision_id": answered["decision_id"], "name": "won"}
    refused = server.post("/outcomes", {"outcomes": [outcome]})
    is_problem(refused, 503)
    assert int(refused.headers["retry-after"]) > 0
    assert server.spool.records == []


def test_rules_that_fail_are_counted_and_said_once_with_their_line_and_nothing_of_the_player(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def rules(context: Any) -> str:
        return {"secret": "easy"}[f"for {context['skill']}"]

    server = Server(tmp_path, make_application(baseline=rules))
    for _ in range(3):
        answered = server.post("/decisions", ASK).json()
        assert (answered["cohort"], answered["logged"]) == ("fallback", True)
    assert server.served.counters.baseline_failed == 3
    (said,) = [message_of(record) for record in caplog.records if "no answer" in record.msg]
    assert "KeyError at test_serving_http.py:" in said
    assert "for 0.2" not in said


DEEP = b'{"subject_id":"p","context":{"skill":0.1,"x":' + b"[" * 400 + b"]" * 400 + b"}}"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "expected a JSON object"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"subject_id":"p","context":{"skill":NaN}}', "NaN"),
        (b'{"subject_id":"p","context":{"skill":Infinity}}', "Infinity"),
        (b'{"subject_id":"p","context":{"skill":1e999}}', "beyond the range"),
        (b'{"subject_id":"p","context":{"skill":1e39}}', "finite float32"),
        (b'{"subject_id":"p","context":{"skill":"1"}}', "expected a number"),
        (b'{"subject_id":"p","context":{"skill":true}}', "expected a number"),
        (b'{"subject_id":"p","context":{}}', r"context.skill: missing"),
        (b'{"subject_id":7,"context":{"skill":0.1}}', "subject_id"),
        (b'{"subject_id":"","context":{"skill":0.1}}', "subject_id"),
        (b'{"subject_id":"p","subject_id":"q","context":{"skill":0.1}}', "twice"),
        (b'{"subject_id":"p","context":{"skill":0.1},"speed":1}', "speed"),
        (b'{"subject_id":"p","context":{"skill":0.1},"decision_id":""}', "decision_id"),
        (b'{"subject_id":"p","context":{"skill":0.1},"decision_id":7}', "decision_id"),
        (b'{"subject_id":"p","context":{"skill":0.1},"decision_id":"a\\u0000"}', "decision_id"),
        (
            b'{"subject_id":"p","context":{"skill":0.1},'
            b'"decision_id":"00000000-0000-7000-8000-000000000000"}',
            "more than a day",
        ),
        (DEEP, "nested"),
    ],
)
def test_a_bad_decision_request_is_a_422_that_says_why_and_changes_nothing(
    server: Server, body: bytes, said: str
) -> None:
    assert said in is_problem(server.post("/decisions", body), 422)
    assert server.spool.records == []
    assert server.post("/decisions", ASK).status_code == 200


@pytest.mark.parametrize("path", ["/decisions", "/decisions:batch", "/outcomes", "/policy:kill"])
def test_an_oversized_body_is_a_413(server: Server, path: str) -> None:
    is_problem(server.post(path, b" " * (MOST_BODY + 1)), 413)
    assert server.spool.records == []
    assert not server.served.slot.killed


@pytest.mark.parametrize("field", ["outcomes", "decisions:batch"])
def test_a_short_request_is_answered_while_a_long_list_is_being_checked(
    server: Server, field: str
) -> None:
    answered: list[str] = []

    async def ask(http: httpx.AsyncClient, name: str, path: str, content: Any) -> None:
        response = await http.post(LEVELS + path, content=orjson.dumps(content))
        assert response.status_code == (422 if path == "/outcomes" else 200)  # none of them is one
        answered.append(name)

    async def both() -> None:
        transport = httpx.ASGITransport(app=server.hot)
        async with httpx.AsyncClient(transport=transport, base_url="http://bakehouse") as http:
            entries = {field.partition(":")[0]: [{}] * 1_000}
            long = asyncio.ensure_future(ask(http, "long", f"/{field}", entries))
            await asyncio.gather(long, ask(http, "short", "/decisions", ASK))

    asyncio.run(both())
    assert answered == ["short", "long"]


@pytest.mark.parametrize("field", ["outcomes", "decisions:batch"])
def test_misspelt_fields_are_compared_with_the_right_ones_a_few_times_a_request(
    server: Server, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def count(came: str, fields: Any, n: int) -> list[str]:
        compared.append(came)
        return get_close_matches(came, fields, n=n)

    monkeypatch.setattr(validation, "get_close_matches", count)
    wrong = [{"decison_id": 1, "xyz": 2}] * 100 + [{f"name{at}": 1} for at in range(300)]
    said = server.post(f"/{field}", {field.partition(":")[0]: wrong}).json()
    problems = [one["problem"]["detail"] for one in said.get("rejected") or said["decisions"]]
    assert len(problems) == 400
    assert all("decison_id: there is no such field; did you" in one for one in problems[:100])
    assert all("xyz: there is no such field, got 2" in one for one in problems[:100])
    assert "name299: there is no such field" in problems[-1]
    assert len(compared) == 5


def test_a_body_whose_record_would_outgrow_the_topic_is_refused(server: Server) -> None:
    numbers = b",".join([b"1e15"] * 3_900)  # each is written out as 1000000000000000.0
    body = b'{"subject_id":"p","context":{"skill":0.1,"x":[' + numbers + b"]}}"
    assert len(body) <= MOST_BODY
    assert "record" in is_problem(server.post("/decisions", body), 422)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/outcomes", {}),
        ("/outcomes", {"outcomes": {}}),
        ("/outcomes", {"outcomes": [], "more": 1}),
        ("/decisions:batch", {"decisions": "all"}),
        ("/decisions:batch", {"decisions": [1] * 5_001}),
    ],
)
def test_a_list_that_is_none_is_a_422(server: Server, path: str, body: Any) -> None:
    is_problem(server.post(path, body), 422)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/applications/chess/decisions", 404),
        ("POST", "/v1/applications/chess/decisions:batch", 404),
        ("POST", "/v1/applications/chess/outcomes", 404),
        ("POST", "/v1/applications/chess/policy:kill", 404),
        ("GET", "/v1/applications/chess/status", 404),
        ("GET", "/nowhere", 404),
        ("GET", f"{LEVELS}/decisions", 405),
        ("PUT", f"{LEVELS}/outcomes", 405),
        ("GET", f"{LEVELS}/policy:kill", 405),
    ],
)
def test_what_is_not_there_is_a_problem_too(
    server: Server, method: str, path: str, status: int
) -> None:
    is_problem(server.request(method, path, b"{}"), status)


@pytest.mark.parametrize(
    "path",
    [
        *("/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/"),
        *("/v1/status", "/v1/applications", f"{LEVELS}/policy", f"{LEVELS}/status"),
    ],
)
def test_what_people_read_is_there(server: Server, path: str) -> None:
    assert server.request("GET", path).status_code == 200


@pytest.mark.parametrize(("said", "shown"), [({}, 0.0), ({"no_record": 3}, 3.0)])
def test_metrics_show_positions_without_a_record_and_an_account_of_before_adds_up(
    server: Server, said: dict[str, int], shown: float
) -> None:
    account = {"received": 9, "applied": 5, "duplicate": 1, "pending": 1, "orphan": 1}
    account |= {"quarantined": 1, **said, "received": 9 + sum(said.values())}
    stream = {"part": "stream", "process": "1", "at_ms": 1, "account": account}
    server.report._subscriber = SimpleNamespace(  # type: ignore[assignment]
        statuses={"stream/1": stream}, listening=True, problem=None
    )
    lines = server.request("GET", "/metrics").text.splitlines()
    assert f'bakehouse_positions{{outcome="no_record"}} {shown}' in lines
    assert 'bakehouse_positions{outcome="quarantined"} 1.0' in lines
    assert "bakehouse_positions_unaccounted 0.0" in lines


@pytest.mark.parametrize(
    "path",
    [
        *("/livez", "/readyz", "/docs", "/openapi.json", "/", "/page/icon.svg", "/page/none"),
        *("/v1/applications", f"{LEVELS}/policy", f"{LEVELS}/audit", "/v1/nowhere"),
    ],
)
def test_head_answers_as_get_does_without_a_body(server: Server, path: str) -> None:
    got, head = server.request("GET", path), server.request("HEAD", path)
    assert head.status_code == got.status_code and head.content == b""
    if got.is_success:
        assert head.headers == got.headers and int(head.headers["content-length"]) > 0


def test_head_leaves_the_connection_fit_for_the_next_request(server: Server) -> None:
    with server.listening() as url:
        host, _, port = url.removeprefix("http://").partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        for path in ("/livez", "/readyz", "/metrics", "/", "/livez"):
            connection.request("HEAD", path)
            answer = connection.getresponse()
            assert answer.status == 200 and answer.read() == b""
            assert int(answer.headers["content-length"]) > 0
        connection.request("GET", "/livez")
        assert connection.getresponse().read() == b"alive\n"
        connection.close()


@pytest.mark.parametrize("path", [f"{LEVELS}/decisions", f"{LEVELS}/policy:kill", "/v1/live"])
def test_head_is_refused_where_there_is_nothing_to_read_to_an_end(
    server: Server, path: str
) -> None:
    head = server.request("HEAD", path)
    assert head.status_code == 405 and head.content == b""


def test_metrics_count_what_happened(server: Server) -> None:
    server.post("/decisions", ASK)
    server.post("/decisions", b"{")
    server.post("/outcomes", {"outcomes": [{"decision_id": uuid7(), "name": "won"}, 1]})
    lines = server.request("GET", "/metrics").text.splitlines()
    for expected in (
        'bakehouse_decisions_total{application="levels"} 1.0',
        'bakehouse_invalid_total{application="levels"} 1.0',
        'bakehouse_outcomes_total{application="levels"} 1.0',
        'bakehouse_rejected_total{application="levels"} 1.0',
        'bakehouse_cohort_decisions_total{application="levels",cohort="policy"} 1.0',
    ):
        assert expected in lines


def test_a_kill_acts_on_the_next_request_and_is_on_its_way_to_kafka(server: Server) -> None:
    killed = server.post("/policy:kill", {"by": "ada", "why": "players complain"})
    assert killed.status_code == 200
    answered = server.post("/decisions", ASK).json()
    assert (answered["cohort"], answered["propensity"]) == ("fallback", 1.0)
    [control] = server.spool.events(Topic.POLICIES)
    assert (control["killed"], control["by"], control["why"]) == (True, "ada", "players complain")
    assert server.spool.records[0].key == b"levels/control"
    server.post("/policy:revive", {"by": "ada", "why": "mended"})
    assert server.post("/decisions", ASK).json()["cohort"] == "policy"


def test_exploration_by_hand_acts_on_the_next_request_and_the_audit_log_says_who(
    server: Server,
) -> None:
    server.post("/policy:explore", {"by": "ada", "why": "<i>a new season</i>", "share": 1.0})
    server.post("/decisions", ASK)
    [decision] = server.spool.events(Topic.DECISIONS)
    assert decision["exploration"]["epsilon"] == 1.0
    assert decision["propensity"] == pytest.approx(1 / 3)
    asked = server.post("/policy:retrain", {"by": "ada", "why": "new prices"}).json()
    assert asked["control"]["retrain_at_ms"] == asked["control"]["at_ms"]
    entries = server.request("GET", f"{LEVELS}/audit").json()["entries"]
    assert [(entry["action"], entry["by"], entry["why"]) for entry in entries] == [
        ("retrain", "ada", "new prices"),
        ("explore", "ada", "<i>a new season</i>"),
    ]
    assert entries[1]["changed"] == {"explore_share": [None, 1.0]}


def test_decisions_of_simulated_players_are_counted_apart(server: Server) -> None:
    server.post("/decisions", ASK)
    server.post("/decisions", ASK | {"subject_id": "simulated-1-7"})
    told = server.request("GET", f"{LEVELS}/status").json()
    assert (told["decisions"], told["simulated"]) == (2, 1)


def test_a_kill_works_with_a_full_spool(server: Server) -> None:
    server.spool.full = True
    assert server.post("/policy:kill", {"by": "ada", "why": ""}).status_code == 200
    assert server.served.slot.killed
    assert len(server.spool.records) == 1


@pytest.mark.parametrize(
    ("action", "body", "status"),
    [
        ("promote", b'{"by":"ada","why":"x"}', 422),
        ("promote", b'{"by":"ada","why":"x","version":99}', 409),
        ("promote", b'{"by":"ada","why":"x","version":-1}', 422),
        ("promote", b'{"by":"ada","why":"x","version":"1"}', 422),
        ("rollback", b"{}", 409),
        ("freeze", b'{"version":1}', 422),
        ("freeze", b"[1]", 422),
        ("kill", b'{"share":0.1}', 422),
        ("explore", b'{"share":1.5}', 422),
        ("explore", b'{"share":"0.5"}', 422),
        ("explore", b'{"version":1}', 422),
        ("retrain", b'{"share":0.1}', 422),
        ("freeze", b'{"who":1}', 422),
        ("explode", b"{}", 404),
    ],
)
def test_a_control_that_cannot_be_is_refused_and_changes_nothing(
    server: Server, action: str, body: bytes, status: int
) -> None:
    before = server.served.control
    is_problem(server.post(f"/policy:{action}", body), status)
    assert server.served.control == before
    assert server.spool.records == []


def test_the_policy_page_names_the_version_and_its_history(server: Server) -> None:
    pointer = publish_policy(server.policies, server.application, 1, favourite=0)
    server.served.point([pointer], live=True)
    server.post("/policy:rollback", {"by": "ada", "why": "x"})
    told = server.request("GET", f"{LEVELS}/policy").json()
    assert (told["policy_version"], told["newest_version"], told["pinned_version"]) == (0, 1, 0)
    assert [(entry["from"], entry["to"]) for entry in told["history"]] == [(0, 1), (1, 0)]
    server.post("/policy:release", {"by": "ada", "why": "x"})
    told = server.request("GET", f"{LEVELS}/policy").json()
    assert told["manifest"]["version"] == told["policy_version"] == 1


def test_while_policies_are_swapped_every_answer_comes_from_one_of_them_whole(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path)
    try:
        # Policy v prefers action v mod 3 and explores with ε of its own.
        epsilon = {1: 0.12, 2: 0.24, 3: 0.36}
        pointers = [
            publish_policy(
                server.policies, server.application, v, favourite=v % 3, epsilon=epsilon[v]
            )
            for v in epsilon
        ]
        stop = threading.Event()

        def swap() -> None:
            while not stop.is_set():
                for pointer in pointers:
                    server.served.point([pointer], live=True)

        swapping = threading.Thread(target=swap)
        server.served.point(pointers[:1], live=True)
        swapping.start()
        try:
            asyncio.run(_ask_many(server.hot, lambda: server.served.swaps, at_least=30))
        finally:
            stop.set()
            swapping.join()
        events = server.spool.events(Topic.DECISIONS)
        assert {event["policy_version"] for event in events} == {1, 2, 3}
        labels = server.application.actions.labels
        for event in events:
            version, share = event["policy_version"], epsilon[event["policy_version"]]
            assert event["exploration"]["epsilon"] == share
            preferred = labels[version % 3]
            assert event["action_probabilities"][preferred] == pytest.approx(1 - share * 2 / 3)
            assert event["propensity"] == event["action_probabilities"][event["action"]]
            assert event["explored"] == (event["action"] != preferred)
    finally:
        server.close()


async def _ask_many(app: HotRoutes, swaps: Callable[[], int], *, at_least: int) -> None:
    transport = httpx.ASGITransport(app=app)
    began, asked = swaps(), 0
    async with httpx.AsyncClient(transport=transport, base_url="http://bakehouse") as http:
        while swaps() - began < at_least or asked < 200:
            response = await http.post(f"{LEVELS}/decisions", content=orjson.dumps(ASK))
            assert response.status_code == 200
            asked += 1


HEAD = b"POST /v1/applications/levels/decisions HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n"


BEGUN = {
    "a line": b"POST /v1",
    "a head": HEAD,
    "no body": HEAD + b"\r\n",
    "some of a body": HEAD + b'\r\n{"subject_id"',
}


@pytest.mark.parametrize(
    ("used_before", "begun"),
    [(False, b""), *((used, begun) for used in (False, True) for begun in BEGUN.values())],
)
def test_a_request_that_does_not_come_to_an_end_is_ended(
    server: Server, used_before: bool, begun: bytes
) -> None:
    def has_begun() -> bool:
        for connection in server.connections:
            if b"\r\n\r\n" in begun:
                return connection.cycle is not None and connection.cycle.scope["method"] == "POST"
            return not used_before or connection.timeout_keep_alive_task is None
        return False

    request_timeout = RequestTimeout(limit_s=30)
    with server.listening() as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as client:
            if used_before:
                client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.recv(10_000).startswith(b"HTTP/1.1 200")
            client.sendall(begun)
            wait_until(has_begun, "the request has begun")
            assert server.look(request_timeout, 100.0) == 0
            assert server.look(request_timeout, 130.0) == 0
            assert server.look(request_timeout, 130.5) == 1
            assert client.recv(10_000) == b""
    assert server.spool.records == []


def test_a_connection_that_rests_or_gets_on_is_left_alone(server: Server) -> None:
    request_timeout = RequestTimeout(limit_s=30)
    with server.listening() as url, httpx.Client(base_url=url) as http:
        for now in (0.0, 20.0, 40.0, 60.0):
            assert http.post(f"{LEVELS}/decisions", json=ASK).status_code == 200
            assert server.look(request_timeout, now) == 0
        assert len(server.connections) == 1


def test_a_control_that_cannot_be_kept_is_in_force_and_the_answer_says_so(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "serving").write_text("a file where the folder should be")
    answered = server.post("/policy:kill", {"by": "ada", "why": "players complain"})
    assert answered.status_code == 200
    said = answered.json()
    assert (said["killed"], said["kept"], said["published"]) == (True, False, "soon")
    assert "It is in force, and forgotten where this process starts again" in said["not_kept"]
    assert server.post("/decisions", ASK).json()["cohort"] == "fallback"
    assert [event["killed"] for event in server.spool.events(Topic.POLICIES)] == [True]
    (tmp_path / "serving").unlink()
    said = server.post("/policy:kill", {"by": "ada", "why": "again"}).json()
    assert (said["kept"], said["not_kept"]) == (True, None)


def test_stream_is_asked_to_requeue_under_a_key_that_all_others_pass_over(server: Server) -> None:
    asked = {"application": "chess", "everything": True, "by": "ada", "why": "it knows chess now"}
    answer = server.request("POST", "/v1/stream:requeue", asked)
    assert answer.status_code == 200
    (record,) = server.spool.records
    assert (record.topic, record.key) == (Topic.POLICIES, b"@stream/requeue")
    order = read_order(record.value, received_at_ms=answer.json()["asked_at_ms"])
    assert order.model_dump() == answer.json()["order"]
    assert (order.application, order.everything, order.by) == ("chess", True, "ada")
    is_problem(server.request("POST", "/v1/stream:requeue", {"app": "chess"}), 422)
    is_problem(server.request("POST", "/v1/stream:reorder", {}), 404)
    assert len(server.spool.records) == 1
