"""Many requests, all answered from one slot: each has a result of its own, in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bakehouse_schemas.decisions.decide import Answer, Asked, answer
from bakehouse_schemas.decisions.slot import Slot
from bakehouse_schemas.errors import InvalidEvent, SpoolFull
from bakehouse_schemas.events.events import DecisionRequest
from bakehouse_serving.hot.decision_steps import DecisionSteps, admit
from bakehouse_serving.hot.idempotency import AnotherSubject, another_subject
from bakehouse_serving.hot.route import Route, recorded
from bakehouse_serving.problems import problem
from bakehouse_serving.spool.frames import Record, Topic

Result = dict[str, Any]  # JSON of an answer, or `{"problem"}`


def answer_batch(
    steps: DecisionSteps,
    route: Route,
    slot: Slot,
    requests: Sequence[DecisionRequest | InvalidEvent],
    keys: Sequence[str | None],
    began_s: float,
) -> list[Result]:
    """One result for each request; what is answered is recorded before this returns.

    Args:
        requests: those that could not be read are there as their error.
        keys: the id of each, where it names none itself; None: one is made.
    """
    now_ms = int(began_s * 1000)
    counters = route.served.counters
    results: list[Result] = [{}] * len(requests)
    asked: dict[int, Asked] = {}  # by position in the batch
    firsts: dict[str, tuple[int, str]] = {}  # decision_id → where it stands first, and for whom
    repeats: list[tuple[int, int]] = []
    for at, (request, key) in enumerate(zip(requests, keys, strict=True)):
        try:
            if isinstance(request, InvalidEvent):
                raise request
            decision_id = request.decision_id or key
            if decision_id is not None and decision_id in firsts:
                first, subject_id = firsts[decision_id]
                if subject_id != request.subject_id:
                    raise another_subject(decision_id)
                repeats.append((at, first))
                continue
            admitted = admit(route, request, now_ms, key)
            if isinstance(admitted, dict):
                results[at] = admitted
                continue
            asked[at] = admitted
            if decision_id is not None:
                firsts[decision_id] = at, request.subject_id
        except (InvalidEvent, AnotherSubject) as error:
            results[at] = _refusal(error)
            counters.invalid += 1
    if asked:
        _decide(steps, route, slot, asked, began_s, results)
    for at, first in repeats:
        counters.repeated += 1
        results[at] = results[first]
    return results


def _decide(
    steps: DecisionSteps,
    route: Route,
    slot: Slot,
    asked: Mapping[int, Asked],
    began_s: float,
    results: list[Result],
) -> None:
    """Decide, record and finish what was admitted; fills in the results of these positions."""
    application, now_ms = route.served.application, int(began_s * 1000)
    together, draws = list(asked.values()), [steps.draw() for _ in asked]
    answers = answer(application, slot, together, draws, now_ms=now_ms)
    most = steps.most_record_bytes
    records: list[Record] = []
    kept: list[tuple[int, Answer]] = []
    for at, one in zip(asked, answers, strict=True):
        try:
            records.append(recorded(Topic.DECISIONS, one.decision_id, one.event, "context", most))
            kept.append((at, one))
        except InvalidEvent as error:
            results[at] = _refusal(error)
    logged = True
    try:
        steps.spool.append(records)
    except SpoolFull:
        logged = False
        plain = answer(application, slot, together, draws, now_ms=now_ms, logged=False)
        by_id = {one.decision_id: one for one in plain}
        kept = [(at, by_id[one.decision_id]) for at, one in kept]
    for at, one in kept:
        results[at] = steps.finish(route, slot, one, logged, began_s)


def _refusal(error: InvalidEvent | AnotherSubject) -> Result:
    status = 409 if isinstance(error, AnotherSubject) else 422
    return {"problem": problem(status, str(error))}
