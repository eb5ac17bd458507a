"""What runs beside the answers goes on after a turn that failed, and is missed where it ended."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from bakehouse_schemas.application.hydration import FromTable
from bakehouse_schemas.process.settings import Settings
from bakehouse_serving import server
from bakehouse_serving.background import Background
from bakehouse_serving.hydration import table as hydration_table
from bakehouse_serving.hydration.table import Table
from bakehouse_serving.policies.subscriber import Subscriber
from bakehouse_serving.server import Process, build
from bakehouse_serving.spool.frames import Record
from bakehouse_serving.spool.fsync import FsyncThread
from bakehouse_serving.spool.publisher import Publisher
from bakehouse_serving.spool.spool import Spool
from tests.fakes import InMemoryBroker, InMemoryProducer
from tests.unit.test_decide import make_application
from tests.waiting import wait_until

LOCKED = "decide+outcome+admin:one-key-for-everything"


def built(home: Path, **more: Any) -> Iterator[Process]:
    thresholds = gc.get_threshold()
    process = build(Settings(home=home, **more), [make_application()])
    yield process
    for cache in process.idempotency_caches:
        cache.close()
    process.spool.close()
    process.folder_lock.release()
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    yield from built(tmp_path)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Process]:
    yield from built(tmp_path, api_keys=LOCKED)


@pytest.fixture
def hearing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """With a subscriber that hears nothing."""
    for process in built(tmp_path):
        subscriber = process.subscriber = Subscriber(process.settings, {}, process="0")
        monkeypatch.setattr(subscriber, "_listen", subscriber._stopping.wait)
        yield process
        subscriber.stop()
        subscriber.join(30)
        process.fsync_thread.stop()


def readiness(process: Process) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=process.hot)
        async with httpx.AsyncClient(transport=transport, base_url="http://bakehouse") as client:
            return await client.get("/readyz")

    return asyncio.run(ask())


def failing(times: int, work: Callable[..., Any]) -> Callable[..., Any]:
    """`work`, which fails at first: there is no handle left."""
    left = [times]

    def attempt(*given: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise OSError(24, "Too many open files")
        return work(*given)

    return attempt


def test_a_turn_that_fails_is_logged_once_and_named_until_one_succeeds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    background = Background()
    for _ in range(3):
        with background.turn("status"):
            raise OSError(24, "Too many open files")
    assert background.failing == ["status"]
    assert [one.message for one in caplog.records] == [
        "status failed; its next turn comes all the same"
    ]
    with background.turn("status"):
        pass
    assert background.failing == []
    assert caplog.records[-1].message == "status works again"


async def heartbeats(process: Process, enough: Callable[[], bool]) -> None:
    """Let the heartbeat beat until it was enough."""
    beating = server._Server(
        uvicorn.Config(process.hot, lifespan="off", log_config=None), process, "http://x"
    )
    task = asyncio.create_task(beating._beat())
    while not enough() and not task.done():
        await asyncio.sleep(0)
    assert not task.done(), task.exception()
    task.cancel()


@pytest.mark.parametrize("part", ["status", "answer memory", "live", "patience"])
def test_the_heartbeat_goes_on_whatever_part_of_it_failed(
    process: Process, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "STATUS_EVERY_S", 0.0)
    of, name = {
        "status": (process.report, "tick"),
        "answer memory": (process.idempotency_caches[0], "flush"),
        "live": (process.live, "beat"),
        "patience": (server.RequestTimeout, "look"),
    }[part]
    done = {"tick": 0, "flush": 0, "beat": 0, "look": 0}

    def count(one: str) -> Callable[..., None]:
        def work(*_: Any) -> None:
            done[one] += 1

        return work

    monkeypatch.setattr(process.report, "tick", count("tick"))
    monkeypatch.setattr(process.idempotency_caches[0], "flush", count("flush"))
    monkeypatch.setattr(process.live, "beat", count("beat"))
    monkeypatch.setattr(server.RequestTimeout, "look", count("look"))
    monkeypatch.setattr(of, name, failing(3, count(name)))
    asyncio.run(heartbeats(process, lambda: min(done.values()) >= 2))
    assert done.pop(name) == min(done.values()) - 3  # the others did not miss a turn
    assert f"{part} failed; its next turn comes all the same" in caplog.messages


def test_a_server_is_not_ready_once_something_beside_the_answers_has_ended(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    process.background.watch("publisher", lambda: True)
    assert readiness(process).json()["failing"] == []
    process.background.watch("syncer", lambda: False)
    answered = readiness(process)
    assert answered.status_code == 503
    assert "syncer has ended" in answered.json()["detail"]
    for _ in range(3):
        process.background.look()
    ended = "syncer has ended; only a restart of serving brings it back"
    assert [one.message for one in caplog.records if one.levelname == "CRITICAL"] == [ended]


@pytest.mark.filterwarnings("ignore:Exception in thread policy loader")  # which is what happens
def test_who_loads_policies_is_among_those_that_have_to_live(
    hearing: Process, caplog: pytest.LogCaptureFixture
) -> None:
    subscriber = hearing.subscriber
    assert subscriber is not None
    config = uvicorn.Config(hearing.hot, lifespan="off", log_config=None)
    config.load()
    one = server._Server(config, hearing, "http://x")
    one.lifespan = config.lifespan_class(config)

    async def start_and_end() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await one.startup(sockets=[listener])
            assert hearing.background.ended == []
            subscriber._loads.put(sys.exit)  # what no turn is guarded against
            while hearing.background.ended != ["policy loader"]:
                await asyncio.sleep(0)
            await one.shutdown(sockets=[])

    asyncio.run(start_and_end())
    hearing.background.look()
    assert "policy loader has ended; only a restart of serving brings it back" in caplog.messages


def test_where_keys_are_set_readiness_says_that_something_has_ended_and_not_what(
    locked: Process,
) -> None:
    assert readiness(locked).json() == {"ready": True, "answers": True, "learns": False}
    locked.background.watch("syncer", lambda: False)
    answered = readiness(locked)
    assert answered.status_code == 503
    assert "syncer" not in answered.text


def test_a_sync_that_fails_for_any_reason_is_not_the_last(tmp_path: Path) -> None:
    spool, synced = Spool(tmp_path, limit_bytes=1 << 20), threading.Event()

    def sync() -> bool:
        synced.set()
        return False

    attempts = failing(1, sync)
    fsync_thread = FsyncThread(spool, every_s=0.001)

    def attempt() -> bool:
        try:
            return bool(attempts())
        except OSError as error:
            raise ValueError("a handle that was closed") from error

    spool.sync = attempt  # type: ignore[method-assign]
    fsync_thread.start()
    assert synced.wait(30)
    fsync_thread.stop()
    spool.close()


def test_a_status_that_cannot_be_published_for_any_reason_stops_no_event(tmp_path: Path) -> None:
    broker = InMemoryBroker()
    broker.reachable.set()
    spool = Spool(tmp_path, limit_bytes=1 << 20)

    class Broken(InMemoryProducer):
        def send(self, topic: str, **record: Any) -> Any:
            if topic == "status":
                broker.tried.set()
                raise ValueError("a status that no producer takes")
            return super().send(topic, **record)

    publisher = Publisher(
        spool,
        topics={0: "decisions"},
        status_topic="status",
        producer=lambda: Broken(broker),
        linger_s=0.0,
        retry_s=0.001,
    )
    publisher.start()
    publisher.report(b"serving/0", b"{}")
    assert broker.tried.wait(30)
    spool.append([Record(0, b"k", b"v")])
    wait_until(lambda: broker.log == [("decisions", b"k", b"v")], "the event is published")
    assert publisher.is_alive()
    assert publisher.stop(5.0)
    spool.close()


def test_a_table_that_could_not_be_looked_at_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Event()

    def look() -> bool:
        looked.set()
        return True

    monkeypatch.setattr(hydration_table, "AGAIN_AFTER_S", 0.001)
    table = Table(FromTable(str(tmp_path / "t.parquet"), key="id", columns=["spend"]))
    monkeypatch.setattr(table, "refresh", failing(2, look))
    table.start()
    assert looked.wait(30)
    assert table.is_alive()
    table.stop()
    assert not table.is_alive()
