"""Spans of serving: a decision, its outcomes, and the swap to a policy that has learned of it."""

from __future__ import annotations

from collections.abc import Iterable

from bakehouse_schemas.decisions.decide import Answer
from bakehouse_schemas.process.spans import Tracer
from bakehouse_schemas.process.tracing import DECIDE, FIRST_ANSWER, OUTCOME, SWAP, Attributes, Span


def trace_decision(tracer: Tracer, one: Answer, began_s: float, ended_s: float) -> None:
    """A decision that was answered; times are seconds since 1970, UTC."""
    attributes: Attributes = {
        "application": one.event["application"],
        "policy_version": one.policy_version,
        "cohort": one.cohort,
        "explored": one.explored,
    }
    tracer.add(Span(one.decision_id, DECIDE, _ns(began_s), _ns(ended_s), attributes))


def trace_outcomes(
    tracer: Tracer,
    application: str,
    outcomes: Iterable[tuple[str, str, str]],
    began_s: float,
    ended_s: float,
) -> None:
    """Outcomes that were acknowledged: decision, outcome id and kind of each that is traced."""
    for decision_id, outcome_id, kind in outcomes:
        attributes: Attributes = {"application": application, "kind": kind}
        tracer.add(
            Span(decision_id, OUTCOME, _ns(began_s), _ns(ended_s), attributes, key=outcome_id)
        )


def trace_swap(
    tracer: Tracer,
    application: str,
    versions: tuple[int, int],
    decision_ids: Iterable[str],
    began_s: float,
    ended_s: float,
) -> None:
    """A policy was put in place, for the decisions that are new in it.

    Args:
        versions: the one before, and the new one.
    """
    before, new = versions
    attributes: Attributes = {
        "application": application,
        "policy_version": new,
        "previous_version": before,
    }
    for decision_id in decision_ids:
        tracer.add(Span(decision_id, SWAP, _ns(began_s), _ns(ended_s), attributes, key=str(new)))


def trace_first_answer(
    tracer: Tracer,
    application: str,
    version: int,
    decision_ids: Iterable[str],
    swapped_s: float,
    answered_s: float,
) -> None:
    """The policy has answered somebody: what it learned of these decisions is in the game."""
    attributes: Attributes = {"application": application, "policy_version": version}
    for decision_id in decision_ids:
        tracer.add(
            Span(
                decision_id,
                FIRST_ANSWER,
                _ns(swapped_s),
                _ns(answered_s),
                attributes,
                key=str(version),
            )
        )


def _ns(at_s: float) -> int:
    return int(at_s * 1e9)
