"""Operator commands over a policy: promote, rollback, freeze, release, kill, revive, explore,
retrain.

When the answer is sent, a command is in force, persisted, and on its way to Kafka, where every
other process and the learner read it. None of this needs a broker. Where the disk refuses, the
command is in force all the same, and the answer says that it is not persisted.

A control that needs no bundle is in force before anything is waited for: no thread, no lock that
others hold while they read or write. The threads that persist it serve controls alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import anyio
import orjson
from anyio import to_thread
from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from bakehouse_schemas.errors import SpoolFull
from bakehouse_schemas.events.validation import validated
from bakehouse_schemas.process.failpoints import reach
from bakehouse_serving.hot.route import Log
from bakehouse_serving.policies.control_actions import ACTIONS, Change
from bakehouse_serving.policies.served import Served
from bakehouse_serving.request_body import object_of
from bakehouse_serving.spool.frames import Record, Topic

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


# These ask for another policy, which may have to be loaded: they have threads of their own.
LOADS = ("promote", "rollback", "release")
THREADS = 4  # of each kind
KEPT_WITHIN_S = 2.0  # else the operator is answered all the same


def add_routes(
    app: FastAPI, find: Callable[[str], Served], *, spool: Log, most_body_bytes: int
) -> None:
    """One route for each action."""
    switches, loads = (anyio.CapacityLimiter(THREADS) for _ in range(2))
    for action in ACTIONS:
        threads = loads if action in LOADS else switches
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
        )(_route(action, find, spool, most_body_bytes, threads))


def _route(
    action: str,
    find: Callable[[str], Served],
    spool: Log,
    most_body_bytes: int,
    threads: anyio.CapacityLimiter,
) -> Callable[..., Any]:
    async def act(application: str, request: Request) -> dict[str, Any]:
        served = find(application)
        asked = validated(ControlRequest, await object_of(request, most_bytes=most_body_bytes))
        put_in_force = partial(served.put_in_force, action, **asked.model_dump())
        if action in LOADS:  # not on the event loop
            change = await to_thread.run_sync(put_in_force, limiter=threads)
            return await to_thread.run_sync(complete, served, change, spool, limiter=threads)
        change = put_in_force()
        with anyio.move_on_after(KEPT_WITHIN_S):
            return await to_thread.run_sync(
                complete, served, change, spool, limiter=threads, abandon_on_cancel=True
            )
        late = f"the disk has not taken it within {KEPT_WITHIN_S:g} s, and is still asked to"
        return _answer(served, change, not_kept=f"{late}. It is in force", published="not yet")

    return act


def complete(served: Served, change: Change, spool: Log) -> dict[str, Any]:
    """Persist what is in force and hand it to the publisher; returns the answer to the operator."""
    control, not_kept = change.control, None
    try:
        served.complete(change)
    except OSError as error:  # what people asked for happens, whatever the disk says
        not_kept = (
            f"{error.strerror or error}. It is in force, and forgotten where this process starts "
            "again before Kafka has it; repeat it once the disk takes it"
        )
        log.warning(
            "%s %s is not kept: %s",
            served.application.name,
            change.action,
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
    return _answer(served, change, not_kept=not_kept, published=published)


def _answer(
    served: Served, change: Change, *, not_kept: str | None, published: str
) -> dict[str, Any]:
    return {
        "control": change.control.model_dump(),
        **served.state(),
        "published": published,
        "kept": not_kept is None,
        "not_kept": not_kept,
    }
