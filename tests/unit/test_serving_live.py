"""What the page is told, each second, over server-sent events."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import pytest

from bakehouse_serving.dashboard.live import MOST_VIEWERS
from bakehouse_serving.dashboard.status import StatusReport
from tests.fakes import publish_policy
from tests.unit.test_serving_http import ASK, LEVELS, Server


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def heard(report: StatusReport, *records: dict[str, Any]) -> None:
    statuses = {f"{record['part']}/{record['process']}": record for record in records}
    report._subscriber = SimpleNamespace(  # type: ignore[assignment]
        statuses=statuses, listening=True, problem=None
    )


def insight(at_ms: int, process: str = "9/insight/levels") -> dict[str, Any]:
    figures = {"outcomes": {"in_time": 4, "late": 1, "never": 5}}
    return {"part": "learner", "process": process, "at_ms": at_ms, "insight": figures}


def parse(frame: bytes) -> tuple[str, dict[str, Any]]:
    event, data, end = frame.split(b"\n", 2)
    assert end == b"\n"
    return event.removeprefix(b"event: ").decode(), orjson.loads(data.removeprefix(b"data: "))


def test_a_viewer_gets_a_tick_at_once_and_one_each_beat_made_once_for_all(server: Server) -> None:
    server.post("/decisions", ASK)
    server.report.tick()

    async def two() -> list[bytes]:
        one, other = server.live.watch("levels"), server.live.watch("levels")
        frames = [await anext(one), await anext(other)]
        assert frames[0] is frames[1]
        following = asyncio.gather(anext(one), anext(other))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        assert not following.done()
        server.live.beat()
        frames += await following
        assert frames[2] is frames[3]
        assert server.live.viewers == 2
        await one.aclose()  # type: ignore[attr-defined]
        await other.aclose()  # type: ignore[attr-defined]
        assert server.live.viewers == 0
        return frames

    event, tick = parse(asyncio.run(two())[0])
    assert event == "tick"
    assert tick["verdict"]["state"] == "learning"
    assert tick["tiles"]["decisions"]["total"] == 1
    assert tick["pipe"][0]["stage"] == "serving"


def test_the_learners_figures_come_at_the_start_and_again_only_when_they_are_new(
    server: Server,
) -> None:
    heard(server.report, insight(1_000), insight(900, "8/insight/levels"))

    async def watch() -> list[str]:
        frames = server.live.watch("levels")
        events = [parse(await anext(frames))[0], parse(await anext(frames))[0]]
        for at_ms in (1_000, 2_000):
            heard(server.report, insight(at_ms))
            following = asyncio.ensure_future(anext(frames))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            server.live.beat()
            events.append(parse(await following)[0])
        events.append(parse(await anext(frames))[0])
        return events

    assert asyncio.run(watch()) == ["insight", "tick", "tick", "insight", "tick"]


def test_the_learners_figures_are_part_of_the_status_and_of_no_parts_status(
    server: Server,
) -> None:
    learner = {"part": "learner", "process": "9", "at_ms": 1, "applications": {"levels": {}}}
    heard(server.report, insight(1_000), learner)
    told = server.request("GET", f"{LEVELS}/status").json()
    assert told["insight"]["outcomes"] == {"in_time": 4, "late": 1, "never": 5}
    assert list(told["parts"]) == ["learner/9"]
    assert told["verdict"]["state"] == "learning"
    assert len(told["pipe"]) == 7


def test_a_swap_is_in_the_next_tick(server: Server) -> None:
    pointer = publish_policy(server.policies, server.application, 1, favourite=0)
    server.served.point([pointer], live=True)
    tick = server.live.view("levels")
    assert [(swap["from"], swap["to"]) for swap in tick["swaps"]] == [(0, 1)]
    assert tick["policy"]["version"] == 1
    assert tick["policy"]["age_s"] is not None


def test_over_http_the_events_arrive_and_a_stop_ends_them(server: Server) -> None:
    with server.listening() as url:
        client = httpx.Client(base_url=url, timeout=30)
        with client.stream("GET", f"{LEVELS}/live") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            chunks = answer.iter_bytes()
            assert parse(next(chunks))[0] == "tick"
            server._loop.call_soon_threadsafe(server.live.close)
            assert list(chunks) == []
        with client.stream("GET", "/v1/applications/chess/live") as answer:
            assert answer.status_code == 404
        client.close()


def test_the_list_has_a_line_for_each_application(server: Server) -> None:
    server.post("/decisions", ASK | {"subject_id": "simulated-1-1"})
    frame = asyncio.run(anext(server.live.watch(None)))  # type: ignore[arg-type]
    event, said = parse(frame)
    assert event == "list"
    [line] = said["applications"]
    assert (line["name"], line["decisions"], said["simulated"]) == ("levels", 1, True)


def test_more_viewers_than_there_is_room_for_are_told_so(server: Server) -> None:
    server.live.viewers = MOST_VIEWERS
    refused = server.request("GET", f"{LEVELS}/live")
    assert refused.status_code == 503
    assert "watching already" in refused.json()["detail"]


@pytest.mark.parametrize(
    "seconds",
    [
        [(100, 90, True), (100, 101, False), (0, 0, True)],
        [(1, 1, True), (1, 1, True), (0, 1, False), (0, 0, True)],  # a trickle
    ],
)
def test_a_spool_flows_while_no_more_waits_than_the_last_second_brought(
    server: Server, seconds: list[tuple[int, int, bool]]
) -> None:
    for at_s, (came, waiting, flows) in enumerate(seconds):
        server.disk.appended += came
        told = {
            "at_ms": 1000 * at_s,
            "kafka": {"published": 0, "connected": True, "listening": True},
            "spool": {"events": waiting},
        }
        server.report._note_activity(told, decided=False, come=bool(came))
        assert (server.report.activity.spool_flows_at_ms == 1000 * at_s) == flows
