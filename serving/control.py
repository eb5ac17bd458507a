"""A person's word over a policy: promote, rollback, freeze, release, kill, revive,
explore, retrain.

In force from the next request on, kept on disk, and on its way to Kafka (where every other
process and the learner hear it) before the answer is sent. None of this needs a broker. Where the
disk refuses, the control is in force all the same, and the answer says that it is not kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from schemas.errors import SpoolFull
from schemas.events import validated
from schemas.failpoints import reach
from schemas.wire import parse_object
from serving.frames import Record, Topic
from serving.route import Log
from serving.served import ACTIONS, Served

log = logging.getLogger(__name__)


class ControlRequest(BaseModel):
    """Body of `POST /v1/applications/{application}/policy:<action>`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    by: Annotated[str, Field(max_length=200)] = ""
    why: Annotated[str, Field(max_length=2_000)] = ""
    version: Annotated[int, Field(ge=0)] | None = None
    share: Annotated[float, Field(ge=0, le=1)] | None = None


_MEANING = {
    "promote": "Serve this version until released",
    "rollback": "Serve the version before the current one, or the one named, until released",
    "freeze": "Keep the current policy; the learner goes on learning and publishes nothing",
    "release": "End pin and freeze: the newest policy serves",
    "kill": "Every decision is the baseline's, from the next request on",
    "revive": "End a kill",
    "explore": "Choose this share of decisions uniformly; without one, explore as the page says",
    "retrain": "The learner trains at once, whatever its cadence",
}


def add_routes(
    app: FastAPI, find: Callable[[str], Served], *, spool: Log, most_body_bytes: int
) -> None:
    """One route for each action."""
    for action in ACTIONS:
        app.post(
            f"/v1/applications/{{application}}/policy:{action}",
            summary=_MEANING[action],
            operation_id=f"policy_{action}",
            tags=["control"],
            openapi_extra={
                "requestBody": {
                    "content": {"application/json": {"schema": ControlRequest.model_json_schema()}}
                }
            },
        )(_route(action, find, spool, most_body_bytes))


def _route(
    action: str, find: Callable[[str], Served], spool: Log, most_body_bytes: int
) -> Callable[..., Any]:
    async def act(application: str, request: Request) -> dict[str, Any]:
        served = find(application)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > most_body_bytes:
                raise HTTPException(413, f"the body is larger than {most_body_bytes} bytes")
        asked = validated(ControlRequest, parse_object(body or b"{}"))
        # A bundle may have to be loaded and a file flushed: not on the event loop.
        return await run_in_threadpool(carry_out, served, action, asked, spool)

    return act


def carry_out(served: Served, action: str, asked: ControlRequest, spool: Log) -> dict[str, Any]:
    """Do it, keep it, and hand it to the publisher.

    Raises:
        InvalidEvent, Conflict: as `Served.act` does; nothing was changed.
    """
    not_kept = None
    try:
        control = served.act(
            action, by=asked.by, why=asked.why, version=asked.version, share=asked.share
        )
    except OSError as error:  # what people asked for happens, whatever the disk says
        control = served.control
        not_kept = (
            f"{error.strerror or error}. It is in force, and forgotten where this process starts "
            "again before Kafka has it; repeat it once the disk takes it"
        )
        log.warning(
            "%s %s is not kept: %s",
            served.application.name,
            action,
            error,
            extra={"application": served.application.name},
        )
    reach("serving.control.before_record")
    key = f"{control.application}/control".encode()
    record = Record(Topic.POLICIES, key, orjson.dumps(control.model_dump()))
    published = "soon"
    try:
        spool.append([record], always=True)
    except SpoolFull as error:
        published = f"no: {error}. It is in force here; repeat it to tell the others"
    return {
        "control": control.model_dump(),
        **served.state(),
        "published": published,
        "kept": not_kept is None,
        "not_kept": not_kept,
    }
