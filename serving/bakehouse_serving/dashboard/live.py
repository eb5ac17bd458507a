"""Server-sent events for the dashboard: one beat a second, made once however many people watch.

Nobody watches, nothing is made. Each beat's frame is the same bytes for every viewer, and is made
by the first of them that wakes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from bakehouse_serving.dashboard.pipeline_health import not_learning
from bakehouse_serving.dashboard.status import StatusReport
from bakehouse_serving.dashboard.view import DashboardSettings, listed, pipe_of, view
from bakehouse_serving.policies.served import Served

MOST_VIEWERS = 200
MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Live:
    """The frames of all applications, and who waits for them.

    Args:
        clock: seconds since 1970, UTC.
    """

    def __init__(
        self,
        report: StatusReport,
        served: Mapping[str, Served],
        settings: DashboardSettings,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._report = report
        self._served = served
        self._settings = settings
        self._clock = clock
        self._next = asyncio.Event()
        self._frames: dict[str | None, bytes] = {}  # of this beat
        self._insights: dict[str, tuple[int, bytes]] = {}
        self._learns = (0.0, False)  # when it was last found out, and the answer
        self._closed = False
        self.viewers = 0

    @property
    def freshness_target_s(self) -> float:
        """What freshness is held against."""
        return self._settings.freshness_target_s

    def beat(self) -> None:
        """A second has passed: everyone gets a new frame. From the event loop alone."""
        self._frames.clear()
        waiting, self._next = self._next, asyncio.Event()
        waiting.set()

    def close(self) -> None:
        """End all streams, so that a stop does not wait for people who watch."""
        self._closed = True
        self.beat()

    def view(self, name: str) -> dict[str, Any]:
        """What the dashboard would get of an application now."""
        now_ms = int(self._clock() * 1000)
        return view(self._report, self._served[name], self._settings, now_ms=now_ms)

    def not_learning(self) -> dict[str, dict[str, Any]]:
        """Applications of which nothing is learned now, or nobody knows: the stage, and why."""
        own, now_ms = self._report.status(), int(self._clock() * 1000)
        found = {
            name: not_learning(pipe_of(self._report, one, self._settings, now_ms=now_ms, own=own))
            for name, one in self._served.items()
        }
        return {name: why for name, why in found.items() if why is not None}

    def learns(self) -> bool:
        """Whether all applications learn. Found out once a second at most: anyone may ask."""
        asked_s, learns = self._learns
        if self._clock() - asked_s > 1.0 or asked_s > self._clock():
            learns = not self.not_learning()
            self._learns = (self._clock(), learns)
        return learns

    async def watch(self, name: str | None) -> AsyncIterator[bytes]:
        """Frames of an application, or of the list (None), until the viewer or we leave."""
        self.viewers += 1
        sent_at_ms = -1
        try:
            while not self._closed:
                following = self._next
                if name is not None:
                    at_ms, insight = self._insight(name)
                    if at_ms > sent_at_ms:
                        sent_at_ms = at_ms
                        yield insight
                yield self._frame(name)
                await following.wait()
        finally:
            self.viewers -= 1

    def _frame(self, name: str | None) -> bytes:
        if name not in self._frames:
            if name is None:
                now_ms = int(self._clock() * 1000)
                made = frame(
                    "list", listed(self._report, self._served, self._settings, now_ms=now_ms)
                )
            else:
                made = frame("tick", self.view(name))
            self._frames[name] = made
        return self._frames[name]

    def _insight(self, name: str) -> tuple[int, bytes]:
        record = self._report.insight(name)
        if record is None:
            return -1, b""
        at_ms = int(record["at_ms"])
        made = self._insights.get(name)
        if made is None or made[0] != at_ms:
            made = self._insights[name] = (at_ms, frame("insight", record))
        return made


def frame(event: str, data: Any) -> bytes:
    """One server-sent event; JSON has no line breaks, so its data is one line."""
    return b"event: %s\ndata: %s\n\n" % (event.encode(), orjson.dumps(data))


def add_routes(app: FastAPI, find: Callable[[str], Served], live: Live) -> None:
    """`/v1/live` and `/v1/applications/{application}/live`."""

    def stream(name: str | None) -> StreamingResponse:
        if live.viewers >= MOST_VIEWERS:
            raise HTTPException(503, f"{MOST_VIEWERS} people are watching already")
        return StreamingResponse(live.watch(name), media_type=MEDIA_TYPE, headers=HEADERS)

    @app.get("/v1/live", include_in_schema=False)
    async def live_list() -> StreamingResponse:
        """All applications, each second, as server-sent events `list`."""
        return stream(None)

    @app.get("/v1/applications/{application}/live", include_in_schema=False)
    async def live_application(application: str) -> StreamingResponse:
        """One application, each second: server-sent events `tick`, and `insight` where new."""
        return stream(find(application).application.name)
