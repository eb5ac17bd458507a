"""Decisions over HTTP: one, or many in a batch; in the log before they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import orjson

from bakehouse_schemas.decisions.decide import answer_one
from bakehouse_schemas.errors import InvalidEvent, SpoolFull
from bakehouse_schemas.events.events import DecisionRequest
from bakehouse_schemas.events.validation import Spelling, validated
from bakehouse_schemas.events.wire import parse_object
from bakehouse_serving.hot.decision_batch import answer_batch
from bakehouse_serving.hot.decision_steps import DecisionSteps, admit
from bakehouse_serving.hot.idempotency_key import Headers, entry_id, idempotency_key
from bakehouse_serving.hot.route import ENTRIES_A_TURN, Reply, Route, entries_of, recorded
from bakehouse_serving.hydration.lookup import Hydrator
from bakehouse_serving.spool.frames import Topic


class Decisions:
    """The routes of decisions: JSON in, JSON out."""

    def __init__(self, steps: DecisionSteps) -> None:
        self._steps = steps

    def decide(self, route: Route, body: bytes, headers: Headers) -> Reply | Awaitable[Reply]:
        """Answer one request; awaitable where features are looked up.

        Raises:
            InvalidEvent: it is none, or cannot be answered.
            AnotherSubject: its decision_id was answered for another subject.
        """
        request = validated(DecisionRequest, parse_object(body))
        key = idempotency_key(headers) if request.decision_id is None else None
        hydrator = route.served.hydrator
        if hydrator is not None:
            waiting = hydrator.hydrate(request.context, request.subject_id)
            if waiting is not None:
                return self._decide_after(waiting, route, request, key)
        return self._decide(route, request, key)

    async def _decide_after(
        self, waiting: Awaitable[None], route: Route, request: DecisionRequest, key: str | None
    ) -> Reply:
        await waiting
        return self._decide(route, request, key)

    def _decide(self, route: Route, request: DecisionRequest, key: str | None) -> Reply:
        """What `answer_batch` does for many; without its lists, which a usual request would pay."""
        steps, served = self._steps, route.served
        began_s = steps.clock()
        now_ms = int(began_s * 1000)
        asked = admit(route, request, now_ms, key)
        if isinstance(asked, dict):
            return Reply(200, orjson.dumps(asked))
        application, slot, draw = served.application, served.slot, steps.draw()
        one = answer_one(application, slot, asked, draw, now_ms=now_ms)
        most, logged = steps.most_record_bytes, True
        record = recorded(Topic.DECISIONS, one.decision_id, one.event, "context", most)
        try:
            steps.spool.append([record])
        except SpoolFull:
            logged = False
            one = answer_one(application, slot, asked, draw, now_ms=now_ms, logged=False)
        answer = steps.finish(route, slot, one, logged, began_s)
        return Reply(200, orjson.dumps(answer))

    async def decide_batch(self, route: Route, body: bytes, headers: Headers) -> Reply:
        """Answer many, all by one policy; each has its own result. Raises InvalidEvent."""
        entries = entries_of(parse_object(body), "decisions")
        key = idempotency_key(headers)
        spelling = Spelling()
        results: list[dict[str, Any]] = []
        slot = route.served.slot  # once: one policy answers all of a request
        for at in range(0, len(entries), ENTRIES_A_TURN):
            if at:
                await asyncio.sleep(0)  # a long batch does not hold up the short requests
            turn = entries[at : at + ENTRIES_A_TURN]
            requests = [_request(entry, spelling) for entry in turn]
            keys = [key and entry_id(key, at + one) for one in range(len(turn))]
            if route.served.hydrator is not None:
                await _hydrate(route.served.hydrator, requests)
            began_s = self._steps.clock()
            results += answer_batch(self._steps, route, slot, requests, keys, began_s)
        return Reply(200, orjson.dumps({"decisions": results}))


def _request(entry: Any, spelling: Spelling) -> DecisionRequest | InvalidEvent:
    if not isinstance(entry, dict):
        return InvalidEvent(f"expected an object, got {type(entry).__name__}")
    try:
        return validated(DecisionRequest, entry, spelling)
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
