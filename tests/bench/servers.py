"""The servers that `decide` compares, each a process of its own under the same uvicorn.

- `hot`: the hot routes as they are served.
- `traced`: the same, one decision in a thousand traced and sent to a collector.
- `hydrated`: the same, with four of six features looked up in a Parquet file of 100,000 players.
- `plain`: the same decision behind a plain FastAPI + pydantic route, as one would write it first:
  the body is a model, the event is a model, the answer is a model. Same encoder, policy,
  exploration and draw, same memory of answers, same spool.
- `floor`: uvicorn with an ASGI application that answers a constant; nothing can cost less.

No publisher runs in any of them: what publishing costs is `publish`'s to say.
"""

from __future__ import annotations

import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi import Path as InPath
from pydantic import BaseModel

from bakehouse_schemas.application.hydration import FromTable
from bakehouse_schemas.decisions.decide import answer, check
from bakehouse_schemas.events.events import Decision, DecisionRequest
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.settings import Settings, load_settings
from bakehouse_serving.hot.idempotency import CachedAnswer, IdempotencyCache
from bakehouse_serving.hot.one_write import OneWriteProtocol
from bakehouse_serving.hot.routes import Receive, Scope, Send
from bakehouse_serving.policies.served import Served
from bakehouse_serving.server import build
from bakehouse_serving.spool.frames import Record, Topic
from bakehouse_serving.spool.spool import Spool
from tests.bench.game import application, world
from tests.bench.policies import write_policy

PLAYERS = 100_000
HYDRATED = ("spend", "sessions", "progress", "has_pass")


class Answered(BaseModel):
    """What the game is told."""

    decision_id: str
    action: str
    propensity: float
    policy_version: int
    mode: str
    cohort: str
    explored: bool
    logged: bool


def with_policy(home: Path) -> Served:
    """Policy 1 published in this home, and kept as serving keeps it."""
    pointer = write_policy(home / "policies", application, 1)
    cache = home / "serving" / f"{application.name}.json"
    served = Served(application, policies=home / "policies", cache=cache)
    served.point([pointer], live=False)
    assert served.slot.version == 1
    return served


def hot(home: Path) -> Any:
    """Serving as it is wired; no broker is named, so nothing is published."""
    with_policy(home)
    return build(Settings(home=home), [application]).hot


def traced(home: Path) -> Any:
    """The same, traced as the environment says."""
    with_policy(home)
    settings = load_settings(home=home)
    assert settings.trace_endpoint is not None
    return build(settings, [application]).hot


def hydrated(home: Path) -> Any:
    """The same as `hot`, with features from a table instead of the request."""
    with_policy(home)
    rng = np.random.default_rng(0)
    rows = [{"subject_id": f"player-{n}"} | world.context(rng) for n in range(PLAYERS)]
    file = home / "players.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file)
    default = {"spend": 0.0, "sessions": 0, "progress": 0.0, "has_pass": False}
    table = FromTable(str(file), key="subject_id", columns=HYDRATED, default=default)
    return build(Settings(home=home), [replace(application, hydrate=table)]).hot


def plain(home: Path) -> Any:
    """The same behind FastAPI and pydantic."""
    served = with_policy(home)
    memory = IdempotencyCache(application.actions, folder=home / "answers", span_s=600)
    spool = Spool(home / "spool", limit_bytes=Settings().spool_bytes)
    draw = random.Random(0).random
    app = FastAPI()

    @app.post("/v1/applications/{name}/decisions", response_model=Answered)
    async def decide(name: Annotated[str, InPath()], body: DecisionRequest) -> Answered:
        if name != application.name:
            raise HTTPException(404)
        now_ms = int(time.time() * 1000)
        if body.decision_id:
            before = memory.get(body.decision_id, body.subject_id)
            if before is not None:
                return Answered(decision_id=body.decision_id, **before._asdict())
        decision_id = body.decision_id or uuid7(now_ms)
        asked = check(application, body, decision_id=decision_id, now_ms=now_ms)
        one = answer(application, served.slot, [asked], [draw()], now_ms=now_ms)[0]
        event = Decision(**one.event)
        value = event.model_dump_json(by_alias=True, exclude_none=True).encode()
        spool.append([Record(Topic.DECISIONS, decision_id.encode(), value)])
        told = CachedAnswer(
            one.action,
            one.propensity,
            one.policy_version,
            one.mode,
            one.cohort,
            one.explored,
            True,
        )
        memory.put(decision_id, body.subject_id, one.position, told)
        return Answered(decision_id=decision_id, **told._asdict())

    return app


async def constant(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads a body and answers what a decision looks like."""
    body = b'{"decision_id":"00000000-0000-7000-8000-000000000000","action":"none"}'
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main(kind: str, home: str, port: str) -> None:
    """Serve until SIGTERM."""
    app: Any = constant
    if kind != "floor":
        app = {"hot": hot, "traced": traced, "hydrated": hydrated, "plain": plain}[kind](Path(home))
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(port),
        loop="uvloop",
        http="httptools" if kind in ("plain", "floor") else OneWriteProtocol,  # as serving has it
        proxy_headers=False,
        access_log=False,
        log_level="warning",
        lifespan="off",
        server_header=False,
        date_header=False,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
