"""Which action, with what probability, and the event that records it. No client and no clock.

Serving answers with it, one request at a time, and a batch job a whole population.

The executed distribution (exploration, mask and floor included) is computed here, logged, and
drawn from: `draw_action(action_probabilities, draw)` on the log gives the action again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from bakehouse_schemas.application.actions import Discrete
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.exploration import NONE, Exploration, Explores, with_share
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.contracts.contract import Contract
from bakehouse_schemas.decisions.cohort import FALLBACK, Role, place_in_rollout, role_of
from bakehouse_schemas.decisions.slot import Slot
from bakehouse_schemas.errors import ApplicationError, InvalidEvent
from bakehouse_schemas.events.checks import (
    check_action,
    check_items,
    choices_of,
    eligible_mask,
    offered,
    problem_with_action,
)
from bakehouse_schemas.events.events import DecisionRequest
from bakehouse_schemas.events.records import check_id_time
from bakehouse_schemas.execution.choice import (
    allowed_row,
    baseline_distribution,
    baseline_row_policy,
    choose_label,
    choose_row,
)
from bakehouse_schemas.execution.logged_density import POINT, logged_density
from bakehouse_schemas.policy.scores import TOGETHER


class Asked(NamedTuple):
    """A checked request: all that is decided before a policy is looked at."""

    request: DecisionRequest
    decision_id: str
    observation: np.ndarray  # float32 [D]
    eligible: np.ndarray  # bool [A]
    restricted: bool  # the request left some actions out
    baseline: int | None  # position of the baseline's label; None where the baseline failed
    place: float  # among those that policies may answer, see `cohort.py`; < 0: holdout
    baseline_row: np.ndarray | None = None  # of other actions than labels; float64 [W]
    items: np.ndarray | None = None  # features of the items to rank; float32 [A, F]


class Answer(NamedTuple):
    """What the game is told."""

    decision_id: str
    position: int  # of a label, inside this process; 0 of other actions
    action: Any  # as JSON carries it
    propensity: float
    policy_version: int
    mode: str
    cohort: str
    explored: bool
    event: dict[str, Any]  # a record of decisions.v1


def check(
    application: Application,
    request: DecisionRequest,
    *,
    decision_id: str,
    now_ms: int,
    known: Collection[Contract] = (),
) -> Asked:
    """What a request asks for, once.

    Args:
        known: contracts that the application has had before: games that still name a label of one
            of them are answered, with another.

    Raises:
        InvalidEvent: an unknown action, nothing eligible, a context that cannot be encoded, or
            an id of another day.
    """
    if request.decision_id is not None:
        check_id_time(request.decision_id, now_ms)
    if request.previous_decision_id == decision_id:
        raise InvalidEvent("previous_decision_id: a decision cannot precede itself")
    observation = application.encoder.encode(request.context)
    actions, items = application.actions, request.items
    place = place_in_rollout(application.name, request.subject_id, application.rollout.holdout)
    if isinstance(actions, Discrete):
        eligible, restricted = _eligible(application, request, known)
        baseline = _baseline(application, request, eligible, known)
        position = None if baseline is None else actions.position(baseline)
        return Asked(request, decision_id, observation, eligible, restricted, position, place)
    check_items(application, items)
    encoded = actions.encode_items(items or ()) if isinstance(actions, Ranking) else None
    eligible, restricted = _eligible(application, request, known)
    baseline = _baseline(application, request, eligible, known)
    row = None if baseline is None else actions.row_of(baseline, items)
    return Asked(request, decision_id, observation, eligible, restricted, None, place, row, encoded)


def _baseline(
    application: Application,
    request: DecisionRequest,
    eligible: np.ndarray,
    known: Collection[Contract],
) -> Any:
    """The baseline's action, the game's own word first; None where the baseline failed.

    Asked for a ranking, it is given the eligible items alone.
    """
    given, ranked = request.baseline_action, request.items
    if given is not None:
        gone = problem_with_action(application, given, ranked, eligible) is not None and any(
            contract.takes(given, ranked) for contract in known
        )
        if not gone:  # else the application's own rules say what they would do now
            check_action(application, given, "baseline_action", ranked, eligible)
            return given
    items = offered(request.items, eligible) if isinstance(application.actions, Ranking) else None
    try:
        return application.baseline_action(request.context, items)
    except ApplicationError:
        return None


def _eligible(
    application: Application, request: DecisionRequest, known: Collection[Contract]
) -> tuple[np.ndarray, bool]:
    if (
        request.eligible_actions is None
        and not request.excluded_actions
        and application.shape.kind != "ranking"
    ):
        return _everything(application.shape.choices), False
    mask = eligible_mask(
        application,
        eligible=request.eligible_actions,
        excluded=request.excluded_actions,
        items=request.items,
        known=known,
    )
    there = len(choices_of(application, request.items))
    return mask, not bool(mask[:there].all())


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
    """Decide, all from one slot; each as `answer_one` would, to the last bit.

    Args:
        draws: one uniform number in [0, 1) each.
        logged: False (the spool is full) gives everyone the plain baseline.
    """
    roles = [_role(application, slot, one, logged=logged) for one in asked]
    if application.shape.kind != "discrete":
        return [
            _shaped(application, slot, one, draw, role, now_ms)
            for one, draw, role in zip(asked, draws, roles, strict=True)
        ]
    base_policy: list[np.ndarray | None] = [None] * len(asked)
    rows = [at for at, role in enumerate(roles) if role.by_policy]
    if rows:
        observations = np.array([asked[at].observation for at in rows])  # [R, D]
        masks = np.array([asked[at].eligible for at in rows])  # [R, A]
        for first in range(0, len(rows), TOGETHER):  # so that each gets what it would get alone
            some = slice(first, first + TOGETHER)
            found = slot.distribution(observations[some], masks[some])
            for at, row in zip(rows[some], found, strict=True):
                base_policy[at] = row
    return [
        _one(application, slot, one, draw, policy, role, now_ms)
        for one, draw, policy, role in zip(asked, draws, base_policy, roles, strict=True)
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
    role = _role(application, slot, one, logged=logged)
    if application.shape.kind != "discrete":
        return _shaped(application, slot, one, draw, role, now_ms)
    base_policy = None
    if role.by_policy:
        base_policy = slot.distribution(one.observation[None], one.eligible[None])[0]
    return _one(application, slot, one, draw, base_policy, role, now_ms)


def _role(application: Application, slot: Slot, one: Asked, *, logged: bool) -> Role:
    if not logged or slot.killed:
        return FALLBACK
    mode, policy = application.mode, slot.policy
    if policy is None or (mode == "apprentice" and not policy.manifest.apprentice):
        return role_of(one.place, 0.0, mode)
    return role_of(one.place, slot.canary, mode)


@cache
def _first_exploration(rule: Explores) -> Exploration:
    return rule.after(0)


def _exploration(application: Application, slot: Slot, role: Role) -> Exploration:
    if not role.explores:
        return NONE
    exploration = (
        slot.exploration if role.by_policy else _first_exploration(application.exploration)
    )
    share = slot.explore_share
    return exploration if share is None else with_share(exploration, share)


def _one(
    application: Application,
    slot: Slot,
    one: Asked,
    draw: float,
    base_policy: np.ndarray | None,
    role: Role,
    now_ms: int,
) -> Answer:
    cohort = role.cohort
    if base_policy is None:
        base_policy = baseline_distribution(one.baseline, one.eligible)
        if one.baseline is None:
            cohort = "fallback"
    exploration = _exploration(application, slot, role)
    position, executed = choose_label(base_policy, one.eligible, exploration, draw)
    if not executed[position] > 0.0:  # scores that overflowed: such a policy answers nobody
        return _one(application, slot, one, draw, None, FALLBACK, now_ms)
    labels = application.actions.choices
    by_position = executed.tolist()
    baseline = None if one.baseline is None else labels[one.baseline]
    return _told(
        application,
        one,
        position=position,
        action=labels[position],
        propensity=by_position[position],
        version=slot.version if role.by_policy else 0,
        cohort=cohort,
        explored=role.explores and position != int(base_policy.argmax()),
        how={
            "action_probabilities": {labels[at]: p for at, p in enumerate(by_position) if p > 0.0},
            "exploration": exploration.logged(),
            "draw": draw,
        },
        baseline=baseline,
        now_ms=now_ms,
    )


def _shaped(
    application: Application, slot: Slot, one: Asked, draw: float, role: Role, now_ms: int
) -> Answer:
    """A decision that is no label: numbers, several parts, or a ranking."""
    actions, shape, items = application.actions, application.shape, one.request.items
    cohort = role.cohort
    baseline = None if one.baseline_row is None else actions.action_of(one.baseline_row, items)
    row = allowed_row(shape, one.baseline_row, one.eligible)
    if one.baseline_row is None and not role.by_policy:
        cohort = "fallback"
    how: dict[str, Any] = {"exploration": NONE.logged(), "draw": draw, "density": POINT}
    exploration = _exploration(application, slot, role)
    if role.by_policy:
        base_policy = slot.base_policy(one.observation[None], one.eligible[None], one.items)
    else:
        base_policy = baseline_row_policy(shape, row, one.eligible, exploration)
    executed = choose_row(
        shape, base_policy, row, one.eligible, exploration, draw, explores=role.explores
    )
    if executed is None:
        action, propensity, explored = baseline, 1.0, False
    else:
        if not executed.propensity > 0.0:  # as in `_one`; only what is no number gets here
            return _shaped(application, slot, one, draw, FALLBACK, now_ms)
        action = actions.action_of(executed.row, items)
        propensity, explored = executed.propensity, role.explores and executed.explored
        how |= {
            "exploration": exploration.logged(),
            "density": logged_density(shape, base_policy, exploration, executed),
        }
    return _told(
        application,
        one,
        position=0,
        action=action,
        propensity=propensity,
        version=slot.version if role.by_policy else 0,
        cohort=cohort,
        explored=explored,
        how=how,
        baseline=baseline,
        now_ms=now_ms,
    )


def _told(
    application: Application,
    one: Asked,
    *,
    position: int,
    action: Any,
    propensity: float,
    version: int,
    cohort: str,
    explored: bool,
    how: Mapping[str, Any],
    baseline: Any,
    now_ms: int,
) -> Answer:
    """The answer, and its record.

    Args:
        how: what it takes to recompute the draw.
        baseline: the baseline's action, None where the baseline failed.
    """
    request = one.request
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
        "policy_version": version,
        "mode": application.mode,
        "cohort": cohort,
        "explored": explored,
        **how,
    }
    if baseline is not None:
        event["baseline_action"] = baseline
    if request.episode_id is not None:
        event["episode_id"] = request.episode_id
    if request.previous_decision_id is not None:
        event["previous_decision_id"] = request.previous_decision_id
    if request.items is not None:
        event["items"] = request.items
    if one.restricted:
        names = choices_of(application, request.items)
        event["eligible_actions"] = [names[at] for at in np.flatnonzero(one.eligible[: len(names)])]
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
