"""The hot routes: plain ASGI in front of the application that people read.

POST /v1/applications/{application}/decisions, …/decisions:batch, …/outcomes
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple, Protocol

import orjson

from schemas.decide import Answer, Asked, answer, answer_one, check
from schemas.errors import InvalidEvent, SpoolFull
from schemas.events import (
    DecisionRequest,
    OutcomeRequest,
    check_outcome,
    validated,
)
from schemas.ids import uuid7
from schemas.keys import Scope as KeyScope
from schemas.slot import Slot
from schemas.spans import Tracer
from schemas.wire import parse_object
from schemas.world import SIMULATED
from serving.answers import AnswerMemory, Remembered
from serving.figures import Timings
from serving.frames import Record, Topic
from serving.hydration import Hydrator
from serving.keys import Doors, Refused
from serving.problems import MEDIA_TYPE, problem, problem_bytes
from serving.served import Served
from serving.tokens import TokenRefused, Tokens
from serving.traced import trace_decision, trace_outcomes

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_IN_A_BATCH = 5_000
AT_ONCE = 64  # of a batch, before other requests get their turn
RETRY_AFTER_S = b"5"


class Log(Protocol):
    """Where events go before a request is answered."""

    def append(self, records: list[Record], *, always: bool = False) -> None:
        """Write all or none. Raises SpoolFull."""


class Route(NamedTuple):
    """One application behind the hot routes."""

    served: Served
    answers: AnswerMemory
    tokens: Tokens | None = None  # where outcomes must carry one


class Reply(NamedTuple):
    """Status, body, media type and further headers."""

    status: int
    body: bytes
    media_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


class HotRoutes:
    """An ASGI application; what it does not know goes on to `beyond`.

    Args:
        spool: appended to before every answer.
        doors: who comes in, here and beyond.
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
        doors: Doors,
        draw: Callable[[], float],
        most_body_bytes: int,
        most_record_bytes: int,
        clock: Callable[[], float] = time.time,
        tracer: Tracer | None = None,
    ) -> None:
        self._tracer = tracer
        self._beyond = beyond
        self._spool = spool
        self._doors = doors
        self._draw = draw
        self._clock = clock
        self._most_body_bytes = most_body_bytes
        self._most_record_bytes = most_record_bytes
        self.timings = Timings()
        self.too_large = 0
        self._paths: dict[str, tuple[Callable[[Route, bytes], Any], Route, KeyScope]] = {}
        for name, route in routes.items():
            base = f"/v1/applications/{name}"
            self._paths[f"{base}/decisions"] = (self._decide, route, "decide")
            self._paths[f"{base}/outcomes"] = (self._outcomes, route, "outcome")
            self._paths[f"{base}/decisions:batch"] = (self._decide_batch, route, "decide")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._paths.get(scope["path"]) if scope["type"] == "http" else None
        if found is None or scope["method"] != "POST":
            return await self._pass_on(scope, receive, send)
        handle, route, needed = found
        if (refused := self._doors.refuse(scope["headers"], needed)) is not None:
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
            route.served.figures.invalid += 1
            reply = _refusal(413, f"the body is larger than {self._most_body_bytes} bytes")
        else:
            try:
                reply = handle(route, body)
                if not isinstance(reply, Reply):
                    reply = await reply
            except InvalidEvent as error:
                route.served.figures.invalid += 1
                reply = _refusal(422, str(error))
        self.timings.add(time.perf_counter() - began)
        return await _send(send, reply)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refused = self._doors.refuse_beyond(scope["method"], scope["path"], scope["headers"])
            if refused is not None:
                return await _send(send, _refused(refused))
        return await self._beyond(scope, receive, send)

    # --- decisions

    def _decide(self, route: Route, body: bytes) -> Reply | Awaitable[Reply]:
        request = validated(DecisionRequest, parse_object(body))
        hydrator = route.served.hydrator
        if hydrator is not None:
            waiting = hydrator.hydrate(request.context, request.subject_id)
            if waiting is not None:
                return self._decide_after(waiting, route, request)
        return self._decided(route, request)

    async def _decide_after(
        self, waiting: Awaitable[None], route: Route, request: DecisionRequest
    ) -> Reply:
        await waiting
        return self._decided(route, request)

    def _decided(self, route: Route, request: DecisionRequest) -> Reply:
        """What `_answers` does, for the one decision of the usual request."""
        began_s = self._clock()
        now_ms = int(began_s * 1000)
        served = route.served
        decision_id = request.decision_id
        if decision_id is None:
            decision_id = uuid7(now_ms)
        elif (before := route.answers.get(decision_id)) is not None:
            served.figures.repeated += 1
            return Reply(200, orjson.dumps(_told(route, decision_id, before)))
        application, slot = served.application, served.slot
        asked = check(application, request, decision_id=decision_id, now_ms=now_ms)
        draw = self._draw()
        one = answer_one(application, slot, asked, draw, now_ms=now_ms)
        logged = True
        try:
            self._spool.append([self._record(one)])
        except SpoolFull:
            logged = False
            one = answer_one(application, slot, asked, draw, now_ms=now_ms, logged=False)
        return Reply(200, orjson.dumps(self._tell(route, slot, one, logged, began_s)))

    async def _decide_batch(self, route: Route, body: bytes) -> Reply:
        entries = _entries(parse_object(body), "decisions")
        results: list[dict[str, Any]] = []
        slot = route.served.slot  # once: one policy answers all of a request
        for at in range(0, len(entries), AT_ONCE):
            if at:
                await asyncio.sleep(0)  # a long batch does not hold up the short requests
            requests = [_request(entry) for entry in entries[at : at + AT_ONCE]]
            if route.served.hydrator is not None:
                await _hydrate(route.served.hydrator, requests)
            began_s = self._clock()
            results += [
                {"problem": problem(422, str(result))}
                if isinstance(result, InvalidEvent)
                else result
                for result in self._answers(route, slot, requests, began_s)
            ]
        return Reply(200, orjson.dumps({"decisions": results}))

    def _answers(
        self,
        route: Route,
        slot: Slot,
        requests: list[DecisionRequest | InvalidEvent],
        began_s: float,
    ) -> list[dict[str, Any] | InvalidEvent]:
        """One result for each request, all from one slot; logged before this returns."""
        now_ms = int(began_s * 1000)
        served, memory = route.served, route.answers
        application, figures = served.application, served.figures
        results: list[dict[str, Any] | InvalidEvent | None] = [None] * len(requests)
        asked: list[Asked] = []
        places: list[int] = []
        twice: dict[str, int] = {}  # an id that stands twice in one batch
        repeats: list[tuple[int, int]] = []
        for at, request in enumerate(requests):
            try:
                if isinstance(request, InvalidEvent):
                    raise request
                decision_id = request.decision_id
                if decision_id is not None:
                    if (before := memory.get(decision_id)) is not None:
                        figures.repeated += 1
                        results[at] = _told(route, decision_id, before)
                        continue
                    if decision_id in twice:
                        repeats.append((at, twice[decision_id]))
                        continue
                else:
                    decision_id = uuid7(now_ms)
                checked = check(application, request, decision_id=decision_id, now_ms=now_ms)
                if request.decision_id is not None:
                    twice[decision_id] = at
                asked.append(checked)
                places.append(at)
            except InvalidEvent as error:
                results[at] = error
                figures.invalid += 1
        if asked:
            draws = [self._draw() for _ in asked]
            answers = answer(application, slot, asked, draws, now_ms=now_ms)
            records: list[Record] = []
            kept: list[tuple[int, Answer]] = []
            for at, one in zip(places, answers, strict=True):
                try:
                    records.append(self._record(one))
                    kept.append((at, one))
                except InvalidEvent as error:
                    results[at] = error
            logged = True
            try:
                self._spool.append(records)
            except SpoolFull:
                logged = False
                plain = answer(application, slot, asked, draws, now_ms=now_ms, logged=False)
                by_id = {one.decision_id: one for one in plain}
                kept = [(at, by_id[one.decision_id]) for at, one in kept]
            for at, one in kept:
                results[at] = self._tell(route, slot, one, logged, began_s)
        for at, first in repeats:
            figures.repeated += 1
            results[at] = results[first]
        return [result for result in results if result is not None]

    def _tell(
        self, route: Route, slot: Slot, one: Answer, logged: bool, began_s: float
    ) -> dict[str, Any]:
        """Remember and count an answer; returns what the game is told."""
        served = route.served
        told = Remembered(
            one.action,
            one.propensity,
            one.policy_version,
            one.mode,
            one.cohort,
            one.explored,
            logged,
        )
        route.answers.put(one.decision_id, one.position, told)
        figures = served.figures
        figures.decisions += 1
        figures.cohorts[one.cohort] += 1
        figures.simulated += one.event["subject_id"].startswith(SIMULATED)
        figures.explored += one.explored
        figures.unlogged += not logged
        figures.baseline_failed += "baseline_action" not in one.event
        if slot.fresh and one.policy_version == slot.version:
            served.first_answer(slot)
        if self._tracer is not None and self._tracer.is_traced(one.decision_id):
            trace_decision(self._tracer, one, began_s, self._clock())
        return _told(route, one.decision_id, told)

    def _record(self, one: Answer) -> Record:
        value = _dumped(one.event)
        if len(value) > self._most_record_bytes:
            raise InvalidEvent(
                f"context: its record has {len(value)} bytes, more than the "
                f"{self._most_record_bytes} that the topic takes"
            )
        return Record(Topic.DECISIONS, one.decision_id.encode(), value)

    # --- outcomes

    def _outcomes(self, route: Route, body: bytes) -> Reply:
        served = route.served
        began_s = self._clock()
        now_ms = int(began_s * 1000)
        entries = _entries(parse_object(body), "outcomes")
        records: list[Record] = []
        rejected: list[dict[str, Any]] = []
        for at, entry in enumerate(entries):
            try:
                records.append(self._outcome(route, entry, now_ms))
            except InvalidEvent as error:
                rejected.append({"index": at, "problem": problem(422, str(error))})
            except TokenRefused as error:
                rejected.append({"index": at, "problem": problem(403, str(error))})
        try:
            self._spool.append(records)
        except SpoolFull as error:
            return Reply(
                503,
                problem_bytes(
                    503,
                    str(error),
                    remains="none of these outcomes was recorded: send them again. Decisions "
                    "are answered meanwhile, by the baseline",
                ),
                MEDIA_TYPE.encode(),
                ((b"retry-after", RETRY_AFTER_S),),
            )
        served.figures.outcomes += len(records)
        if self._tracer is not None:
            self._trace_outcomes(self._tracer, served.application.name, records, began_s)
        served.figures.rejected += len(rejected)
        return Reply(202, orjson.dumps({"accepted": len(records), "rejected": rejected}))

    def _trace_outcomes(
        self, tracer: Tracer, application: str, records: list[Record], began_s: float
    ) -> None:
        told = []
        for record in records:
            if tracer.is_traced(decision_id := record.key.decode()):
                event = orjson.loads(record.value)
                told.append((decision_id, event["outcome_id"], event["kind"]))
        trace_outcomes(tracer, application, told, began_s, self._clock())

    def _outcome(self, route: Route, entry: Any, now_ms: int) -> Record:
        if not isinstance(entry, dict):
            raise InvalidEvent(f"expected an object, got {type(entry).__name__}")
        outcome = validated(OutcomeRequest, entry)
        application = route.served.application
        check_outcome(application, outcome)
        if route.tokens is not None:
            route.tokens.check(outcome.decision_id, outcome.token)
        event: dict[str, Any] = {
            "schema": "outcome.v1",
            "outcome_id": outcome.outcome_id or uuid7(now_ms),
            "application": application.name,
            "decision_id": outcome.decision_id,
            "kind": outcome.kind,
            "occurred_at_ms": now_ms if outcome.occurred_at_ms is None else outcome.occurred_at_ms,
        }
        for name in ("name", "value", "executed_action", "payload"):
            if (value := getattr(outcome, name)) is not None:
                event[name] = value
        value = _dumped(event)
        if len(value) > self._most_record_bytes:
            raise InvalidEvent(
                f"payload: its record has {len(value)} bytes, more than the "
                f"{self._most_record_bytes} that the topic takes"
            )
        return Record(Topic.OUTCOMES, outcome.decision_id.encode(), value)


def _entries(body: dict[str, Any], field: str) -> list[Any]:
    entries = body.get(field)
    if not isinstance(entries, list):
        came = "nothing" if field not in body else type(entries).__name__
        raise InvalidEvent(f"{field}: expected a list, got {came}")
    if set(body) != {field}:
        raise InvalidEvent(f"expected only {field!r}, got {sorted(body)!r:.200}")
    if len(entries) > MOST_IN_A_BATCH:
        raise InvalidEvent(f"{field}: {len(entries)} entries, at most {MOST_IN_A_BATCH} at once")
    return entries


def _request(entry: Any) -> DecisionRequest | InvalidEvent:
    if not isinstance(entry, dict):
        return InvalidEvent(f"expected an object, got {type(entry).__name__}")
    try:
        return validated(DecisionRequest, entry)
    except InvalidEvent as error:
        return error


async def _hydrate(hydrator: Hydrator, requests: list[DecisionRequest | InvalidEvent]) -> None:
    """All of them at once."""
    asked = [
        hydrator.hydrate(request.context, request.subject_id)
        for request in requests
        if isinstance(request, DecisionRequest)
    ]
    if waiting := [one for one in asked if one is not None]:
        await asyncio.gather(*waiting)


def _told(route: Route, decision_id: str, told: Remembered) -> dict[str, Any]:
    answer = {
        "decision_id": decision_id,
        "action": told.action,
        "propensity": told.propensity,
        "policy_version": told.policy_version,
        "mode": told.mode,
        "cohort": told.cohort,
        "explored": told.explored,
        "logged": told.logged,
    }
    if route.tokens is not None:
        answer["token"] = route.tokens.token(decision_id)
    return answer


def _dumped(event: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(event)
    except orjson.JSONEncodeError as error:
        raise InvalidEvent(f"the JSON is nested too deeply, or cannot be kept: {error}") from None


def _refusal(status: int, detail: str) -> Reply:
    return Reply(status, problem_bytes(status, detail), MEDIA_TYPE.encode())


def _refused(why: Refused) -> Reply:
    return _refusal(why.status, why.detail)._replace(headers=why.headers)


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
