"""Which action, with what probability, and the event that records it. No client and no clock.

The executed distribution (exploration, mask and floor included) is computed here, logged, and
drawn from: `draw_action(action_probabilities, draw)` on the log gives the action again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from schemas.application import Application
from schemas.cohort import in_holdout
from schemas.errors import ApplicationError, InvalidEvent
from schemas.events import DecisionRequest, check_id_time, check_label
from schemas.propensity import draw_action, executed_distribution, one_hot
from serving.slot import NONE, Slot


class Asked(NamedTuple):
    """A checked request: all that is decided before a policy is looked at."""

    request: DecisionRequest
    decision_id: str
    observation: np.ndarray  # float32 [D]
    eligible: np.ndarray  # bool [A]
    restricted: bool  # the request left some actions out
    baseline: int | None  # position of the baseline's action; None where the baseline failed
    holdout: bool


class Answer(NamedTuple):
    """What the game is told."""

    decision_id: str
    position: int  # of the action, inside this process
    action: str
    propensity: float
    policy_version: int
    mode: str
    cohort: str
    explored: bool
    event: dict[str, Any]  # a record of decisions.v1


def check(
    application: Application, request: DecisionRequest, *, decision_id: str, now_ms: int
) -> Asked:
    """What a request asks for, once.

    Raises:
        InvalidEvent: an unknown action, nothing eligible, a context that cannot be encoded, or
            an id of another day.
    """
    if request.decision_id is not None:
        check_id_time(request.decision_id, now_ms)
    if request.previous_decision_id == decision_id:
        raise InvalidEvent("previous_decision_id: a decision cannot precede itself")
    observation = application.encoder.encode(request.context)
    eligible, restricted = _eligible(application, request)
    baseline: int | None
    if request.baseline_action is not None:
        check_label(application, request.baseline_action, "baseline_action")
        baseline = application.actions.position(request.baseline_action)
    else:
        try:
            baseline = application.actions.position(application.baseline_action(request.context))
        except ApplicationError:
            baseline = None
    holdout = in_holdout(application.name, request.subject_id, application.rollout.holdout)
    return Asked(request, decision_id, observation, eligible, restricted, baseline, holdout)


def _eligible(application: Application, request: DecisionRequest) -> tuple[np.ndarray, bool]:
    size = len(application.actions)
    if request.eligible_actions is None and not request.excluded_actions:
        return _everything(size), False
    eligible = np.full(size, request.eligible_actions is None)
    for label in request.eligible_actions or ():
        check_label(application, label, "eligible_actions")
        eligible[application.actions.position(label)] = True
    for label in request.excluded_actions or ():
        check_label(application, label, "excluded_actions")
        eligible[application.actions.position(label)] = False
    if not eligible.any():
        raise InvalidEvent(
            "eligible_actions: nothing is left to choose from after excluded_actions; leave at "
            f"least one of {list(application.actions.labels)}"
        )
    return eligible, not bool(eligible.all())


@cache
def _everything(size: int) -> np.ndarray:
    mask = np.ones(size, dtype=bool)
    mask.flags.writeable = False  # shared by all requests
    return mask


def answer(
    application: Application,
    slot: Slot,
    asked: Sequence[Asked],
    draws: Sequence[float],
    *,
    now_ms: int,
    logged: bool = True,
) -> list[Answer]:
    """Decide, all from one slot.

    Args:
        draws: one uniform number in [0, 1) each.
        logged: False (the spool is full) gives everyone the plain baseline.
    """
    open_ = logged and not slot.killed and application.mode == "online"
    ruled = [open_ and not one.holdout for one in asked]
    own: list[np.ndarray | None] = [None] * len(asked)
    if slot.policy is not None:
        rows = [at for at, by_policy in enumerate(ruled) if by_policy]
        if rows:
            observations = np.array([asked[at].observation for at in rows])  # [R, D]
            masks = np.array([asked[at].eligible for at in rows])  # [R, A]
            for at, row in zip(rows, slot.distribution(observations, masks), strict=True):
                own[at] = row
    return [
        _one(application, slot, one, draw, policy, by_policy, open_, now_ms)
        for one, draw, policy, by_policy in zip(asked, draws, own, ruled, strict=True)
    ]


def answer_one(
    application: Application,
    slot: Slot,
    one: Asked,
    draw: float,
    *,
    now_ms: int,
    logged: bool = True,
) -> Answer:
    """`answer` for one decision, without what several need."""
    open_ = logged and not slot.killed and application.mode == "online"
    by_policy = open_ and not one.holdout
    own = None
    if by_policy and slot.policy is not None:
        own = slot.distribution(one.observation[None], one.eligible[None])[0]
    return _one(application, slot, one, draw, own, by_policy, open_, now_ms)


def _one(
    application: Application,
    slot: Slot,
    one: Asked,
    draw: float,
    own: np.ndarray | None,
    by_policy: bool,
    open_: bool,
    now_ms: int,
) -> Answer:
    cohort = "policy" if by_policy else "holdout" if open_ else "fallback"
    if own is None:
        own = _baseline_distribution(one)
        if one.baseline is None:
            cohort = "fallback"
    exploration = slot.exploration if by_policy else NONE
    executed = own
    if exploration.kind == "epsilon_greedy":
        executed = executed_distribution(
            own, one.eligible, epsilon=exploration.epsilon, floor=exploration.floor
        )
    position = draw_action(executed, draw)
    if not executed[position] > 0.0:  # scores that overflowed: such a policy answers nobody
        return _one(application, slot, one, draw, None, False, False, now_ms)
    labels = application.actions.labels
    by_position = executed.tolist()
    propensity: float = by_position[position]
    version = slot.version if by_policy else 0
    explored = cohort == "policy" and position != int(own.argmax())
    request = one.request
    action = labels[position]
    event: dict[str, Any] = {
        "schema": "decision.v1",
        "decision_id": one.decision_id,
        "application": application.name,
        "contract": application.contract,
        "subject_id": request.subject_id,
        "decided_at_ms": now_ms,
        "context": request.context,
        # float64 of the float32, so that any JSON reader gets the very same float32 back
        "observation": one.observation.tolist(),
        "action": action,
        "propensity": propensity,
        "action_probabilities": {labels[at]: p for at, p in enumerate(by_position) if p > 0.0},
        "policy_version": version,
        "exploration": {
            "kind": exploration.kind,
            "epsilon": exploration.epsilon,
            "floor": exploration.floor,
        },
        "draw": draw,
        "mode": application.mode,
        "cohort": cohort,
        "explored": explored,
    }
    if one.baseline is not None:
        event["baseline_action"] = labels[one.baseline]
    if request.episode_id is not None:
        event["episode_id"] = request.episode_id
    if request.previous_decision_id is not None:
        event["previous_decision_id"] = request.previous_decision_id
    if request.items is not None:
        event["items"] = request.items
    if one.restricted:
        event["eligible_actions"] = [labels[at] for at in np.flatnonzero(one.eligible)]
    return Answer(
        one.decision_id,
        position,
        action,
        propensity,
        version,
        application.mode,
        cohort,
        explored,
        event,
    )


def _baseline_distribution(one: Asked) -> np.ndarray:
    """All on the baseline's action; where that is not eligible or not known, uniform."""
    size = len(one.eligible)
    if one.baseline is not None and one.eligible[one.baseline]:
        return one_hot(one.baseline, size)
    return np.asarray(one.eligible / one.eligible.sum(), dtype=np.float64)
