"""Decisions over HTTP: one, or many in a batch; in the log before they are answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.decisions.decide import Answer, Asked, answer, answer_one, check
from bakehouse_schemas.decisions.slot import Slot
from bakehouse_schemas.errors import ApplicationError, InvalidEvent, SpoolFull
from bakehouse_schemas.events.events import DecisionRequest, Spelling, validated
from bakehouse_schemas.events.wire import parse_object
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.spans import Tracer
from bakehouse_schemas.worlds.world import SIMULATED
from bakehouse_serving.hot.idempotency import AnotherSubject, Remembered, another_subject
from bakehouse_serving.hot.route import AT_ONCE, Log, Reply, Route, entries_of, recorded
from bakehouse_serving.hydration.lookup import Hydrator
from bakehouse_serving.problems import problem
from bakehouse_serving.spool.frames import Record, Topic
from bakehouse_serving.traced import trace_decision

log = logging.getLogger(__name__)


class Decisions:
    """See the module.

    Args:
        spool: appended to before every answer.
        draw: uniform numbers in [0, 1).
        clock: seconds since 1970, UTC.
        most_record_bytes: of an event; what the topic takes.
        tracer: takes the spans of traced decisions; None: nothing is traced.
    """

    def __init__(
        self,
        *,
        spool: Log,
        draw: Callable[[], float],
        clock: Callable[[], float],
        most_record_bytes: int,
        tracer: Tracer | None,
    ) -> None:
        self._spool = spool
        self._draw = draw
        self._clock = clock
        self._most_record_bytes = most_record_bytes
        self._tracer = tracer

    def decide(self, route: Route, body: bytes) -> Reply | Awaitable[Reply]:
        """Answer one request; awaitable where features are looked up.

        Raises:
            InvalidEvent: it is none, or cannot be answered.
            AnotherSubject: its decision_id was answered for another subject.
        """
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
        elif (before := route.answers.get(decision_id, request.subject_id)) is not None:
            served.figures.repeated += 1
            return Reply(200, orjson.dumps(_told(route, decision_id, before)))
        else:
            _check_new(route, decision_id, now_ms)
        application, slot = served.application, served.slot
        asked = check(application, request, decision_id=decision_id, now_ms=now_ms)
        draw = self._draw()
        one = answer_one(application, slot, asked, draw, now_ms=now_ms)
        logged = True
        try:
            self._spool.append([self._recorded(one)])
        except SpoolFull:
            logged = False
            one = answer_one(application, slot, asked, draw, now_ms=now_ms, logged=False)
        return Reply(200, orjson.dumps(self._tell(route, slot, one, logged, began_s)))

    async def decide_batch(self, route: Route, body: bytes) -> Reply:
        """Answer many, all by one policy; each has its own result. Raises InvalidEvent."""
        entries = entries_of(parse_object(body), "decisions")
        spelling = Spelling()
        results: list[dict[str, Any]] = []
        slot = route.served.slot  # once: one policy answers all of a request
        for at in range(0, len(entries), AT_ONCE):
            if at:
                await asyncio.sleep(0)  # a long batch does not hold up the short requests
            requests = [_request(entry, spelling) for entry in entries[at : at + AT_ONCE]]
            if route.served.hydrator is not None:
                await _hydrate(route.served.hydrator, requests)
            began_s = self._clock()
            results += [
                {
                    "problem": problem(
                        409 if isinstance(result, AnotherSubject) else 422, str(result)
                    )
                }
                if isinstance(result, (InvalidEvent, AnotherSubject))
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
    ) -> list[dict[str, Any] | InvalidEvent | AnotherSubject]:
        """One result for each request, all from one slot; logged before this returns."""
        now_ms = int(began_s * 1000)
        served, memory = route.served, route.answers
        application, figures = served.application, served.figures
        results: list[dict[str, Any] | InvalidEvent | AnotherSubject | None]
        results = [None] * len(requests)
        asked: list[Asked] = []
        places: list[int] = []
        twice: dict[str, tuple[int, str]] = {}  # an id that stands twice in one batch: who first
        repeats: list[tuple[int, int]] = []
        for at, request in enumerate(requests):
            try:
                if isinstance(request, InvalidEvent):
                    raise request
                decision_id = request.decision_id
                if decision_id is not None:
                    if (before := memory.get(decision_id, request.subject_id)) is not None:
                        figures.repeated += 1
                        results[at] = _told(route, decision_id, before)
                        continue
                    if decision_id in twice:
                        first, subject_id = twice[decision_id]
                        if subject_id != request.subject_id:
                            raise another_subject(decision_id)
                        repeats.append((at, first))
                        continue
                    _check_new(route, decision_id, now_ms)
                else:
                    decision_id = uuid7(now_ms)
                checked = check(application, request, decision_id=decision_id, now_ms=now_ms)
                if request.decision_id is not None:
                    twice[decision_id] = at, request.subject_id
                asked.append(checked)
                places.append(at)
            except (InvalidEvent, AnotherSubject) as error:
                results[at] = error
                figures.invalid += 1
        if asked:
            draws = [self._draw() for _ in asked]
            answers = answer(application, slot, asked, draws, now_ms=now_ms)
            records: list[Record] = []
            kept: list[tuple[int, Answer]] = []
            for at, one in zip(places, answers, strict=True):
                try:
                    records.append(self._recorded(one))
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
        route.answers.put(one.decision_id, one.event["subject_id"], one.position, told)
        figures = served.figures
        figures.decisions += 1
        figures.cohorts[one.cohort] += 1
        figures.simulated += one.event["subject_id"].startswith(SIMULATED)
        figures.explored += one.explored
        figures.unlogged += not logged
        if "baseline_action" not in one.event:
            figures.baseline_failed += 1
            if figures.baseline_failed == 1:
                _say_why(served.application, one.event)
        if slot.fresh and one.policy_version == slot.version:
            served.first_answer(slot)
        if self._tracer is not None and self._tracer.is_traced(one.decision_id):
            trace_decision(self._tracer, one, began_s, self._clock())
        return _told(route, one.decision_id, told)

    def _recorded(self, one: Answer) -> Record:
        most = self._most_record_bytes
        return recorded(Topic.DECISIONS, one.decision_id, one.event, "context", most)


def _check_new(route: Route, decision_id: str, now_ms: int) -> None:
    """Where tokens are required, an id that may have been answered and forgotten gets none.

    Raises:
        InvalidEvent: the id carries a time that is too far from now.
    """
    if route.tokens is None or route.answers.would_know(decision_id, now_ms):
        return
    raise InvalidEvent(
        f"decision_id: {decision_id} carries a time more than {route.answers.half_span_s:g} s from "
        "this server's: where outcome tokens are required, an id that could be an earlier "
        "decision's is not answered. Leave decision_id out, and the answer names one"
    )


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


def _say_why(application: Application, event: dict[str, Any]) -> None:
    """The log's one line about rules that fail: the first time, with the page's own line."""
    why: BaseException | str = "they answered what is no action"
    try:
        application.baseline_action(event["context"], event.get("items"))
    except ApplicationError as error:
        why = error.__cause__ or why
    log.warning(
        "%s: the page's rules have no answer to a decision: %s; further ones are counted",
        application.name,
        why,
        extra={"application": application.name},
    )


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
