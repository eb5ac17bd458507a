"""What every decision goes through, alone or in a batch: admitted, remembered, counted, traced."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.decisions.decide import Answer, Asked, check
from bakehouse_schemas.decisions.slot import Slot
from bakehouse_schemas.errors import ApplicationError, InvalidEvent
from bakehouse_schemas.events.events import DecisionRequest
from bakehouse_schemas.events.records import check_id_time
from bakehouse_schemas.ids import is_uuid7, uuid7
from bakehouse_schemas.process.spans import Tracer
from bakehouse_schemas.worlds.world import SIMULATED
from bakehouse_serving.decision_spans import trace_decision
from bakehouse_serving.hot.idempotency import CachedAnswer
from bakehouse_serving.hot.route import Log, Route

log = logging.getLogger(__name__)


class DecisionSteps:
    """What deciding needs, and what follows an answer.

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
        self.spool = spool
        self.draw = draw
        self.clock = clock
        self.most_record_bytes = most_record_bytes
        self._tracer = tracer

    def finish(
        self, route: Route, slot: Slot, one: Answer, logged: bool, began_s: float
    ) -> dict[str, Any]:
        """Remember, count and trace an answer that was recorded; returns its JSON."""
        served, event = route.served, one.event
        counters, subject_id = served.counters, event["subject_id"]
        remembered = CachedAnswer(
            one.action,
            one.propensity,
            one.policy_version,
            one.mode,
            one.cohort,
            one.explored,
            logged,
        )
        route.answers.put(one.decision_id, subject_id, one.position, remembered)
        counters.decisions += 1
        counters.cohorts[one.cohort] += 1
        counters.simulated += subject_id.startswith(SIMULATED)
        counters.explored += one.explored
        counters.unlogged += not logged
        if "baseline_action" not in event:
            counters.baseline_failed += 1
            if counters.baseline_failed == 1:
                _log_why(served.application, event)
        if slot.fresh and one.policy_version == slot.version:
            served.first_answer(slot)
        if self._tracer is not None and self._tracer.is_traced(one.decision_id):
            trace_decision(self._tracer, one, began_s, self.clock())
        return answer_json(route, one.decision_id, remembered)


def admit(
    route: Route, request: DecisionRequest, now_ms: int, key: str | None = None
) -> Asked | dict[str, Any]:
    """A request that is to be decided; or the JSON of its answer, where its id was answered before.

    Args:
        key: its id, where the request itself names none.

    Raises:
        InvalidEvent: it cannot be decided.
        AnotherSubject: its id was answered for another subject.
    """
    decision_id = request.decision_id or key
    if decision_id is None:
        return _asked(route, request, uuid7(now_ms), now_ms)
    if request.decision_id is None:
        check_id_time(decision_id, now_ms, "Idempotency-Key")
    if (before := route.answers.get(decision_id, request.subject_id)) is not None:
        route.served.counters.repeated += 1
        return answer_json(route, decision_id, before)
    _check_new(route, decision_id, now_ms)
    return _asked(route, request, decision_id, now_ms)


def _asked(route: Route, request: DecisionRequest, decision_id: str, now_ms: int) -> Asked:
    served = route.served
    return check(
        served.application,
        request,
        decision_id=decision_id,
        now_ms=now_ms,
        known=served.other_contracts.found,
    )


def _check_new(route: Route, decision_id: str, now_ms: int) -> None:
    """Where tokens are required, an id that may have been answered and forgotten gets none.

    Raises:
        InvalidEvent: the id carries a time that is too far from now, or none.
    """
    if route.tokens is None or route.answers.would_know(decision_id, now_ms):
        return
    carries = (
        f"a time more than {route.answers.half_span_s:g} s from this server's"
        if is_uuid7(decision_id)
        else "no time, as a UUIDv7 does"
    )
    raise InvalidEvent(
        f"decision_id: {decision_id} carries {carries}: where outcome tokens are required, an id "
        "that could be an earlier decision's is not answered. Leave decision_id out (and "
        "Idempotency-Key), and the answer names one"
    )


def answer_json(route: Route, decision_id: str, answered: CachedAnswer) -> dict[str, Any]:
    """What the game gets; with the outcome token where one is required."""
    answer = {
        "decision_id": decision_id,
        "action": answered.action,
        "propensity": answered.propensity,
        "policy_version": answered.policy_version,
        "mode": answered.mode,
        "cohort": answered.cohort,
        "explored": answered.explored,
        "logged": answered.logged,
    }
    if route.tokens is not None:
        answer["token"] = route.tokens.token(decision_id)
    return answer


def _log_why(application: Application, event: dict[str, Any]) -> None:
    """The log's one line about rules that fail: the first time, with the application's own line."""
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
