"""A small server for tests of the page: its real files and doors, and scripted figures."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from bakehouse_schemas.process.keys import parse_keys
from bakehouse_serving.api_keys import Authenticator
from bakehouse_serving.dashboard.static_files import add_static_files
from bakehouse_serving.problems import MEDIA_TYPE, problem
from tests.browser import scripted
from tests.waiting import wait_until

EVERY_S = 0.25  # serving says something each second; tests have less patience


@dataclass
class Stage:
    """What is on: change it, and the next event says so."""

    names: list[str] = field(default_factory=lambda: ["levels"])
    state: str = "winning"
    kind: str = "discrete"
    evil: str = ""
    uncounted: bool = False
    rejected: int = 0
    swaps: list[dict[str, Any]] = field(default_factory=list)
    gate_frozen: bool = False
    entries: list[dict[str, Any]] = field(default_factory=list)
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    authenticator: Authenticator = field(default_factory=Authenticator)
    listeners: int = 0  # streams that were opened
    total: int = 41_200

    def lock(self, keys: str) -> None:
        self.authenticator = Authenticator(parse_keys(keys))

    def tick(self, name: str) -> dict[str, Any]:
        self.total += 15
        at_ms = int(time.time() * 1000)
        said = scripted.tick(
            name,
            at_ms,
            state=self.state,
            kind=self.kind,
            total=self.total,
            uncounted=self.uncounted,
            rejected=self.rejected,
            evil=self.evil,
        )
        said["swaps"] += self.swaps
        said["policy"]["gate_frozen"] = self.gate_frozen
        if self.entries:
            said["policy"]["control_at_ms"] = self.entries[0]["at_ms"]
        return said

    def list(self) -> dict[str, Any]:
        ticks = [self.tick(name) for name in self.names]
        return {
            "at_ms": ticks[0]["at_ms"],
            "simulated": True,
            "applications": [
                {
                    "name": one["application"],
                    "mode": "online",
                    "verdict": one["verdict"],
                    "policy_version": 37,
                    "decisions": one["tiles"]["decisions"]["total"],
                    "decisions_per_s": 98.4,
                    "freshness_s": {"p50": 1.8, "p95": 3.2, "n": 5_400},
                }
                for one in ticks
            ],
        }


def make_stage_app(stage: Stage) -> FastAPI:
    app = FastAPI(openapi_url=None)
    add_static_files(app)

    def refused(status: int, detail: str) -> Response:
        return JSONResponse(problem(status, detail), status_code=status, media_type=MEDIA_TYPE)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return refused(error.status_code, error.detail)

    @app.middleware("http")
    async def doors(request: Request, go_on: Any) -> Response:
        headers = request.scope["headers"]
        no = stage.authenticator.refuse_beyond(request.method, request.url.path, headers)
        answer: Response = await go_on(request) if no is None else refused(no.status, no.detail)
        return answer

    @app.get("/v1/applications")
    async def applications() -> Any:
        return {"applications": [{"name": name} for name in stage.names]}

    @app.get("/v1/live")
    async def live_list() -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            stage.listeners += 1
            while True:
                yield event("list", stage.list())
                await asyncio.sleep(EVERY_S)

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/v1/applications/{name}/live")
    async def live(name: str) -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            stage.listeners += 1
            told = None
            while True:
                yield event("tick", stage.tick(name))
                if told != (now := (stage.kind, stage.evil)):
                    told = now
                    insight = scripted.insight(stage.kind, evil=stage.evil)
                    yield event("insight", {"part": "learner", "insight": insight})
                await asyncio.sleep(EVERY_S)

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/v1/applications/{name}/audit")
    async def audit(name: str) -> Any:
        return {"entries": stage.entries}

    @app.get("/v1/applications/{name}/decisions/{decision_id}")
    async def decision(name: str, decision_id: str) -> Any:
        if decision_id != scripted.DECISION:
            raise HTTPException(404, f"decision {decision_id} is not known here")
        return scripted.explanation(stage.evil)

    @app.post("/v1/applications/{name}/policy:{verb}")
    async def control(name: str, verb: str, request: Request) -> Any:
        body = await request.json()
        stage.posts.append((verb, body))
        at_ms = int(time.time() * 1000)
        change = {"killed": [verb == "revive", verb == "kill"]} if "ki" in verb else {}
        said = {"action": verb, "by": body["by"], "why": body["why"], "changed": change}
        stage.entries.insert(0, {"at_ms": at_ms, **said})
        stage.state = {"kill": "killed", "revive": "winning"}.get(verb, stage.state)
        return {"control": {}, "policy_version": 37, "published": "soon", "not_kept": None}

    return app


def event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


class StageServer:
    """Listens on one port; can go away and come back on it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._app = make_stage_app(stage)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app, host="127.0.0.1", port=self._port, lifespan="off", log_config=None
            )
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started, "the stage listens", patience_s=10)

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)
