"""Outcomes over HTTP: checked one by one, in the log before they are accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson

from bakehouse_schemas.errors import InvalidEvent, SpoolFull
from bakehouse_schemas.events.checks import check_outcome
from bakehouse_schemas.events.events import OutcomeRequest
from bakehouse_schemas.events.validation import Spelling, validated
from bakehouse_schemas.events.wire import parse_object
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.spans import Tracer
from bakehouse_serving.decision_spans import trace_outcomes
from bakehouse_serving.hot.idempotency_key import Headers, entry_id, idempotency_key
from bakehouse_serving.hot.outcome_tokens import TokenRefused
from bakehouse_serving.hot.route import ENTRIES_A_TURN, Log, Reply, Route, entries_of, recorded
from bakehouse_serving.problems import MEDIA_TYPE, problem, problem_bytes
from bakehouse_serving.spool.frames import Record, Topic

RETRY_AFTER_S = b"5"


class Outcomes:
    """The route of outcomes: checks each, records those that are right, and answers.

    Args:
        spool: appended to before every answer.
        clock: seconds since 1970, UTC.
        most_record_bytes: of an event; what the topic takes.
        tracer: takes the spans of traced decisions' outcomes; None: nothing is traced.
    """

    def __init__(
        self,
        *,
        spool: Log,
        clock: Callable[[], float],
        most_record_bytes: int,
        tracer: Tracer | None,
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._most_record_bytes = most_record_bytes
        self._tracer = tracer

    async def take(self, route: Route, body: bytes, headers: Headers) -> Reply:
        """Record the outcomes that are right; the answer names the others.

        Raises:
            InvalidEvent: the body is no list of outcomes.
        """
        served = route.served
        began_s = self._clock()
        now_ms = int(began_s * 1000)
        entries = entries_of(parse_object(body), "outcomes")
        key = idempotency_key(headers)
        spelling = Spelling()
        records: list[Record] = []
        uncounted: dict[tuple[str, str | None], int] = {}
        rejected: list[dict[str, Any]] = []
        for at, entry in enumerate(entries):
            if at and at % ENTRIES_A_TURN == 0:
                await asyncio.sleep(0)  # many outcomes do not hold up the short requests
            try:
                own = key and entry_id(key, at)
                records.append(self._outcome(route, entry, own, now_ms, spelling, uncounted))
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
        served.counters.outcomes += len(records)
        if self._tracer is not None:
            self._trace_outcomes(self._tracer, served.application.name, records, began_s)
        served.counters.rejected += len(rejected)
        served.counters.uncounted += sum(uncounted.values())
        notes = served.uncounted.note(uncounted) if uncounted else []
        return _reply(len(records), rejected, notes)

    def _trace_outcomes(
        self, tracer: Tracer, application: str, records: list[Record], began_s: float
    ) -> None:
        traced = []
        for record in records:
            if tracer.is_traced(decision_id := record.key.decode()):
                event = orjson.loads(record.value)
                traced.append((decision_id, event["outcome_id"], event["kind"]))
        trace_outcomes(tracer, application, traced, began_s, self._clock())

    def _outcome(
        self,
        route: Route,
        entry: Any,
        own: str | None,
        now_ms: int,
        spelling: Spelling,
        uncounted: dict[tuple[str, str | None], int],
    ) -> Record:
        if not isinstance(entry, dict):
            raise InvalidEvent(f"expected an object, got {type(entry).__name__}")
        outcome = validated(OutcomeRequest, entry, spelling)
        application = route.served.application
        check_outcome(application, outcome, route.served.other_contracts.found)
        if route.tokens is not None:
            route.tokens.check(outcome.decision_id, outcome.token)
        event: dict[str, Any] = {
            "schema": "outcome.v1",
            "outcome_id": outcome.outcome_id or own or uuid7(now_ms),
            "application": application.name,
            "decision_id": outcome.decision_id,
            "kind": outcome.kind,
            "occurred_at_ms": now_ms if outcome.occurred_at_ms is None else outcome.occurred_at_ms,
        }
        for name in ("name", "value", "executed_action", "payload"):
            if (value := getattr(outcome, name)) is not None:
                event[name] = value
        most = self._most_record_bytes
        record = recorded(Topic.OUTCOMES, outcome.decision_id, event, "payload", most)
        if not route.served.uncounted.counted.counts(outcome.kind, outcome.name):
            key = outcome.kind, outcome.name if outcome.kind == "reward" else None
            uncounted[key] = uncounted.get(key, 0) + 1
        return record


def _reply(accepted: int, rejected: list[dict[str, Any]], notes: list[dict[str, Any]]) -> Reply:
    """202; 207 where some were rejected; 422, a problem too, where all were."""
    result: dict[str, Any] = {"accepted": accepted, "rejected": rejected, "notes": notes}
    if accepted or not rejected:
        return Reply(207 if rejected else 202, orjson.dumps(result))
    detail = f"no outcome was accepted; the first: {rejected[0]['problem']['detail']}"
    return Reply(422, orjson.dumps(problem(422, detail) | result), MEDIA_TYPE.encode())
