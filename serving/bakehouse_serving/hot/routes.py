"""The hot routes: plain ASGI in front of the FastAPI application.

POST /v1/applications/{application}/decisions, …/decisions:batch, …/outcomes
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from bakehouse_schemas.errors import InvalidEvent
from bakehouse_schemas.process.keys import Scope as KeyScope
from bakehouse_schemas.process.spans import Tracer
from bakehouse_serving.api_keys import Authenticator, Refused
from bakehouse_serving.counters import Timings
from bakehouse_serving.hot.decision_steps import DecisionSteps
from bakehouse_serving.hot.decisions import Decisions
from bakehouse_serving.hot.idempotency import AnotherSubject
from bakehouse_serving.hot.idempotency_key import Headers
from bakehouse_serving.hot.outcomes import Outcomes
from bakehouse_serving.hot.route import Log, Reply, Route, refusal

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class HotRoutes:
    """An ASGI application; what it does not know goes on to `beyond`.

    Args:
        spool: appended to before every answer.
        authenticator: decides which requests are let in, here and beyond.
        draw: uniform numbers in [0, 1).
        clock: seconds since 1970, UTC.
        most_body_bytes: of a request.
        most_record_bytes: of an event; what the topics take.
        tracer: takes the spans of traced decisions; None: nothing is traced.
    """

    def __init__(
        self,
        beyond: App,
        routes: Mapping[str, Route],
        *,
        spool: Log,
        authenticator: Authenticator,
        draw: Callable[[], float],
        most_body_bytes: int,
        most_record_bytes: int,
        clock: Callable[[], float] = time.time,
        tracer: Tracer | None = None,
    ) -> None:
        self._beyond = beyond
        self._authenticator = authenticator
        self._most_body_bytes = most_body_bytes
        most = most_record_bytes
        steps = DecisionSteps(
            spool=spool, draw=draw, clock=clock, most_record_bytes=most, tracer=tracer
        )
        decisions = Decisions(steps)
        outcomes = Outcomes(spool=spool, clock=clock, most_record_bytes=most, tracer=tracer)
        self.timings = Timings()
        self.too_large = 0
        self._paths: dict[str, tuple[Callable[[Route, bytes, Headers], Any], Route, KeyScope]] = {}
        for name, route in routes.items():
            base = f"/v1/applications/{name}"
            self._paths[f"{base}/decisions"] = (decisions.decide, route, "decide")
            self._paths[f"{base}/outcomes"] = (outcomes.take, route, "outcome")
            self._paths[f"{base}/decisions:batch"] = (decisions.decide_batch, route, "decide")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._paths.get(scope["path"]) if scope["type"] == "http" else None
        if found is None or scope["method"] != "POST":
            return await self._pass_on(scope, receive, send)
        handle, route, needed = found
        if (refused := self._authenticator.refuse(scope["headers"], needed)) is not None:
            return await _send(send, _refused(refused))  # the body is not even read
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            parts, size = [body], len(body)
            while message.get("more_body") and size <= self._most_body_bytes:
                message = await receive()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
            body = b"".join(parts)
        if message["type"] == "http.disconnect":
            return None
        began = time.perf_counter()
        if len(body) > self._most_body_bytes:
            self.too_large += 1
            route.served.counters.invalid += 1
            reply = refusal(413, f"the body is larger than {self._most_body_bytes} bytes")
        else:
            try:
                reply = handle(route, body, scope["headers"])
                if not isinstance(reply, Reply):
                    reply = await reply
            except InvalidEvent as error:
                route.served.counters.invalid += 1
                reply = refusal(422, str(error))
            except AnotherSubject as error:
                route.served.counters.invalid += 1
                reply = refusal(409, str(error))
        self.timings.add(time.perf_counter() - began)
        return await _send(send, reply)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            method, path = scope["method"], scope["path"]
            if method == "HEAD":
                send = _without_body(send)
                if not path.endswith("/live"):  # a stream's GET would never come to an end
                    scope = {**scope, "method": "GET"}
            refused = self._authenticator.refuse_beyond(method, path, scope["headers"])
            if refused is not None:
                return await _send(send, _refused(refused))
        return await self._beyond(scope, receive, send)


def _without_body(send: Send) -> Send:
    """The answer to a HEAD: its headers, `Content-Length` too, are those of a GET."""

    async def send_head(message: Any) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head


def _refused(why: Refused) -> Reply:
    return refusal(why.status, why.detail)._replace(headers=why.headers)


async def _send(send: Send, reply: Reply) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": [
                (b"content-type", reply.media_type),
                (b"content-length", b"%d" % len(reply.body)),
                *reply.headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": reply.body})
