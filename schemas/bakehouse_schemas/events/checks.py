"""What an application says of a request, a decision or an outcome, beyond its fields' types."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from bakehouse_schemas.application.actions import Continuous, Discrete, Parts
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.contracts.contract import Contract, Decides
from bakehouse_schemas.errors import InvalidEvent, UnknownLabel
from bakehouse_schemas.events.events import Decision, Outcome, OutcomeRequest
from bakehouse_schemas.execution.logged_density import base_policy_from_density
from bakehouse_schemas.numbers import is_finite, is_text

GONE = -1  # the position of a label that there was once


def problem_with_action(
    application: Decides,
    action: Any,
    items: Sequence[Mapping[str, Any]] | None = None,
    eligible: np.ndarray | None = None,
) -> str | None:
    """What is wrong with an action as JSON carries it; None where it is the application's.

    A ranking may be as long as the eligible items allow, where these are fewer than its places.

    Args:
        items: of a request to rank.
        eligible: bool `[A]`; None: all of them.
    """
    problem = application.actions.problem_with(action, items)
    if problem is not None and eligible is not None and application.shape.kind == "ranking":
        return application.actions.problem_with(action, offered(items, eligible))
    return problem


def offered(
    items: Sequence[Mapping[str, Any]] | None, eligible: np.ndarray
) -> list[Mapping[str, Any]] | None:
    """The items of a request that are eligible, in order; what a baseline may rank."""
    if items is None:
        return None
    return [item for item, there in zip(items, eligible, strict=False) if there]


def check_action(
    application: Decides,
    action: Any,
    field: str,
    items: Sequence[Mapping[str, Any]] | None = None,
    eligible: np.ndarray | None = None,
) -> None:
    """Raise InvalidEvent unless `action` is one of the application's; see `problem_with_action`."""
    problem = problem_with_action(application, action, items, eligible)
    if problem is not None:
        raise InvalidEvent(
            f"{field}: {action!r:.60} is not an action of {application.name!r}; {problem}"
        )


def check_items(application: Decides, items: Sequence[Mapping[str, Any]] | None) -> None:
    """Raise InvalidEvent unless a request's items are what its application ranks."""
    actions = application.actions
    problem = actions.problem_with_items(items) if isinstance(actions, Ranking) else None
    if problem is not None:
        raise InvalidEvent(f"items: {problem}")


def choices_of(
    application: Decides, items: Sequence[Mapping[str, Any]] | None = None
) -> Sequence[str]:
    """What a request's eligible and excluded actions may name, in the order of its mask.

    Labels; of several parts `part=label`; of a ranking the ids of the request's items.
    """
    if isinstance(application.actions, Ranking):
        return [item["id"] for item in items or ()]
    return application.actions.choices


def eligible_mask(
    application: Decides,
    *,
    eligible: Sequence[str] | None,
    excluded: Sequence[str] | None = None,
    items: Sequence[Mapping[str, Any]] | None = None,
    known: Collection[Contract] = (),
) -> np.ndarray:
    """What a decision may choose from. bool `[A]`

    Of several parts, one that `eligible` does not name keeps all its labels.

    Args:
        known: contracts that the application has had before: a label of one of them that is gone
            is no mistake, and cannot be chosen.

    Raises:
        InvalidEvent: an unknown choice, or a part with none left.
    """
    shape, names = application.shape, choices_of(application, items)
    mask = np.zeros(shape.choices, dtype=bool)
    mask[: len(names)] = True
    positions = {name: at for at, name in enumerate(names)}

    def position(name: str, field: str) -> int:
        if name not in positions and any(is_label(one, name) for one in known):
            return GONE
        if name not in positions or shape.kind == "continuous":
            expected = "nothing" if shape.kind == "continuous" else f"some of {list(names)}"
            raise InvalidEvent(
                f"{field}: {name!r:.60} is not an action of {application.name!r}; expected "
                f"{expected:.300}"
            )
        return positions[name]

    if eligible is not None:
        kept = np.zeros(shape.choices, dtype=bool)
        found = [position(name, "eligible_actions") for name in eligible]
        left = [at for at in found if at != GONE] if GONE in found else found
        kept[left] = True
        named: Collection[str] = ()  # parts of which a label that is gone is named
        if left is not found:
            named = {name.partition("=")[0] for name in eligible}
        for start, stop in shape.segments or ((0, shape.choices),):
            if (
                shape.kind != "parts"
                or kept[start:stop].any()
                or (named and names[start].partition("=")[0] in named)
            ):
                mask[start:stop] &= kept[start:stop]
    for name in excluded or ():
        if (at := position(name, "excluded_actions")) != GONE:
            mask[at] = False
    for start, stop in shape.segments or ((0, shape.choices),):
        if not mask[start:stop].any():
            raise InvalidEvent(
                "eligible_actions: nothing is left to choose from after excluded_actions; leave "
                f"at least one of {list(names[start:stop])}"
            )
    return mask


def is_label(contract: Contract, name: str) -> bool:
    """Whether a mask of this contract could name it: `label`, of parts `part=label`."""
    return bool(contract.shape.segments) and name in contract.choices


def check_outcome(
    application: Application,
    outcome: OutcomeRequest | Outcome,
    known: Collection[Contract] = (),
) -> None:
    """What one field's type cannot say: what each kind of outcome needs.

    Args:
        known: see `check_executed`.
    """
    if outcome.kind == "reward" and outcome.name is None:
        raise InvalidEvent(
            "name: missing; an outcome of kind 'reward' is named, such as 'level_won'"
        )
    if outcome.kind == "executed":
        check_executed(application, outcome.executed_action, known)
    elif outcome.executed_action is not None:
        raise InvalidEvent(
            f"executed_action: goes with kind 'executed', and this outcome is a {outcome.kind!r}"
        )
    if outcome.outcome_id is not None and outcome.outcome_id.startswith("next:"):
        raise InvalidEvent("outcome_id: ids that begin with 'next:' are the stream's own")


def check_executed(application: Decides, action: Any, known: Collection[Contract] = ()) -> None:
    """Raise InvalidEvent unless an `executed_action` can be one of the application's.

    The items of a ranking are not known here: any list of ids is taken. An outcome does not say
    its decision's contract, so a label may be one of any that this home has known; one that none
    has is waited for.

    Args:
        known: contracts that the application has had before.
    """
    if isinstance(application.actions, Ranking):
        if not isinstance(action, list) or not all(is_text(one) for one in action):
            raise InvalidEvent(f"executed_action: {action!r:.60}; expected a list of item ids")
        return
    problem = problem_with_action(application, action)
    if problem is None or any(contract.takes(action) for contract in known):
        return
    refused = UnknownLabel if _may_be_another_contracts(application, action) else InvalidEvent
    raise refused(
        f"executed_action: {action!r:.60} is not an action of {application.name!r}; {problem}"
    )


def _may_be_another_contracts(application: Decides, action: Any) -> bool:
    """Whether an action is of the shape that this application's have: labels, numbers, parts."""
    match application.actions:
        case Discrete():
            return isinstance(action, str)
        case Continuous():
            return isinstance(action, list) and all(is_finite(one) for one in action)
        case Parts():
            return isinstance(action, Mapping)
    return False


def check_decision(application: Application, decision: Decision) -> None:
    """What the application says of a decision made elsewhere.

    A decision of another contract (an older release of the application, say) is kept as it is:
    it is history, and the learner passes it over.
    """
    if decision.contract != application.contract:
        return
    check_items(application, decision.items)
    items = decision.items
    mask = eligible_mask(application, eligible=decision.eligible_actions, items=items)
    check_action(application, decision.action, "action", items, mask)
    if not _is_eligible(application, decision, mask):
        raise InvalidEvent(f"action: {decision.action!r:.60} is not among eligible_actions")
    if decision.propensity > 1.0 and not application.shape.dims:
        raise InvalidEvent(f"propensity: {decision.propensity} is above 1")
    if decision.baseline_action is not None:
        check_action(application, decision.baseline_action, "baseline_action", items, mask)
    if (probabilities := decision.action_probabilities) is not None:
        _check_probabilities(application, decision, probabilities)
    if application.shape.kind != "discrete":
        _check_density(application, decision)
    if decision.observation is None:
        application.encoder.encode(decision.context)
    elif len(decision.observation) != application.encoder.size:
        raise InvalidEvent(
            f"observation: {len(decision.observation)} numbers, expected "
            f"{application.encoder.size} (contract {application.contract})"
        )
    if isinstance(application.actions, Ranking):
        application.actions.encode_items(decision.items or ())


def _is_eligible(application: Application, decision: Decision, mask: np.ndarray) -> bool:
    shape = application.shape
    row = application.actions.row_of(decision.action, decision.items)
    if shape.kind == "ranking":
        return bool(mask[row[row >= 0].astype(int)].all())
    return all(mask[start + int(row[part])] for part, (start, _) in enumerate(shape.segments))


def _check_probabilities(
    application: Application, decision: Decision, probabilities: Mapping[str, float]
) -> None:
    if application.shape.kind != "discrete":
        raise InvalidEvent(
            "action_probabilities: these go with labels alone; other actions log their density"
        )
    for label in probabilities:
        check_action(application, label, "action_probabilities")
    if abs(sum(probabilities.values()) - 1.0) > 1e-6:
        raise InvalidEvent(
            f"action_probabilities: they add up to {sum(probabilities.values())}, expected 1"
        )
    logged = probabilities.get(decision.action, 0.0)
    if abs(logged - decision.propensity) > 1e-9:
        raise InvalidEvent(
            f"propensity: {decision.propensity} differs from action_probabilities of "
            f"{decision.action!r}, {logged}"
        )


def _check_density(application: Application, decision: Decision) -> None:
    """Whoever decided elsewhere need not say how; what is said must be of this shape."""
    if decision.density is None or decision.density.get("kind") == "point":
        return
    try:
        base_policy_from_density(application.shape, decision.density)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidEvent(
            f"density: {type(error).__name__}: {error}; expected what serving logs of a "
            f"{application.shape.kind} action"
        ) from None
