"""What people ask of stream, handed on over Kafka: `POST /v1/stream:requeue`.

Stream has no door of its own. An order is spooled and published like any event, under a key that
every other part passes over, and stream says in its status when it has carried it out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import anyio
import orjson
from anyio import to_thread
from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from bakehouse_schemas.errors import SpoolFull
from bakehouse_schemas.events.events import ORDERS_TO_STREAM, Order
from bakehouse_schemas.events.fields import Name
from bakehouse_schemas.events.validation import validated
from bakehouse_serving.hot.route import Log
from bakehouse_serving.request_body import object_of
from bakehouse_serving.spool.frames import Record, Topic


class RequeueRequest(BaseModel):
    """Body of `POST /v1/stream:requeue`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    application: Name | None = None
    everything: Annotated[bool, Field(description="Also what does not wait for anything")] = False
    by: Annotated[str, Field(max_length=200)] = ""
    why: Annotated[str, Field(max_length=2_000)] = ""


# order → its body, and what it means
ORDERS: dict[str, tuple[type[BaseModel], str]] = {
    "requeue": (RequeueRequest, "Stream reads its quarantine again: what it knows now is taken in")
}


def add_routes(app: FastAPI, *, spool: Log, most_body_bytes: int) -> None:
    """One route for each order."""
    threads = anyio.CapacityLimiter(1)
    for order, (body, meaning) in ORDERS.items():
        app.post(
            f"/v1/stream:{order}",
            summary=meaning,
            operation_id=f"stream_{order}",
            tags=["control"],
            openapi_extra={
                "requestBody": {
                    "content": {"application/json": {"schema": body.model_json_schema()}}
                }
            },
        )(_route(order, body, spool, most_body_bytes, threads))


def _route(
    name: str,
    model: type[BaseModel],
    spool: Log,
    most_body_bytes: int,
    threads: anyio.CapacityLimiter,
) -> Callable[..., Any]:
    async def act(request: Request) -> dict[str, Any]:
        asked = validated(model, await object_of(request, most_bytes=most_body_bytes))
        order = Order(order=name, at_ms=time.time_ns() // 1_000_000, **asked.model_dump())
        record = Record(
            Topic.POLICIES, ORDERS_TO_STREAM + name.encode(), orjson.dumps(order.model_dump())
        )
        try:
            await to_thread.run_sync(_spool, spool, record, limiter=threads)
        except SpoolFull as error:
            raise HTTPException(503, f"stream was not asked: {error}") from None
        except OSError as error:
            words = error.strerror or error
            raise HTTPException(503, f"stream was not asked: the disk refuses: {words}") from None
        return {"order": order.model_dump(), "asked_at_ms": order.at_ms, "published": "soon"}

    return act


def _spool(spool: Log, record: Record) -> None:
    spool.append([record], always=True)
