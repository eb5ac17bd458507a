"""The events on Kafka and the bodies over HTTP, and the checks that both pass.

Values are JSON; times are integer milliseconds, UTC. Actions are labels, never indices.
`schemas/bakehouse_schemas/events/json/` holds the JSON Schema of each event, generated from this
file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from bakehouse_schemas.application.actions import Ranking
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.application.observation import FLOAT32_MAX
from bakehouse_schemas.errors import InvalidEvent, UnknownApplication
from bakehouse_schemas.events.wire import parse_object
from bakehouse_schemas.execution.propensity import own_from_density
from bakehouse_schemas.ids import uuid7_time_ms
from bakehouse_schemas.numbers import is_text

DAY_MS = 86_400_000
MAX_MS = 253_402_300_799_999  # the end of the year 9999: what every reader's clock can hold

LONGEST_NAME = 200  # of ids, labels and fields
Name = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME)]
UUID7 = r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
DecisionId = Annotated[str, StringConstraints(pattern=UUID7)]
Milliseconds = Annotated[int, Field(ge=0, le=MAX_MS)]
Propensity = Annotated[float, Field(gt=0.0)]
# beyond it the tables would hold an infinity
Float32 = Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
MOST_PROBLEMS = 5  # told of one body or record; a person mends these and asks again
# a list of half a million wrong entries has one problem, not half a million
_FIRST_ALONE = Field(fail_fast=True)
Mode = Literal["online", "apprentice", "logging_only"]
Cohort = Literal["policy", "holdout", "canary", "fallback"]
# labels, item ids, or, of several parts, `part=label`
Choices = Annotated[list[Name], _FIRST_ALONE]
Items = Annotated[list[dict[str, Any]], _FIRST_ALONE]
Probabilities = Annotated[dict[str, Annotated[float, Field(ge=0, le=1.000001)]], _FIRST_ALONE]
_Committed = Annotated[dict[str, Annotated[dict[str, int], _FIRST_ALONE]], _FIRST_ALONE]
OutcomeKind = Literal["reward", "executed", "activated", "end"]


class _Strict(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )


class DecisionRequest(_Strict):
    """Body of `POST /v1/applications/{application}/decisions`."""

    subject_id: Name
    context: dict[str, Any]
    items: Annotated[
        Items | None,
        Field(description="What is to be ranked: each its `id` and what the page says of an item"),
    ] = None
    episode_id: Name | None = None
    previous_decision_id: DecisionId | None = None
    decision_id: DecisionId | None = None
    eligible_actions: Annotated[
        Choices | None,
        Field(description="Labels; of several parts `part=label`; of a ranking the items' ids"),
    ] = None
    excluded_actions: Annotated[
        Choices | None, Field(description="Named as `eligible_actions` are")
    ] = None
    baseline_action: Annotated[
        Any, Field(description="What the rules answer: a label, numbers, an object of parts, ids")
    ] = None


class OutcomeRequest(_Strict):
    """One entry of the body of `POST /v1/applications/{application}/outcomes`."""

    outcome_id: Name | None = None
    decision_id: DecisionId
    kind: OutcomeKind = "reward"
    name: Name | None = None
    value: float | None = None
    executed_action: Any = None
    payload: dict[str, Any] | None = None
    occurred_at_ms: Milliseconds | None = None
    token: Annotated[str, Field(max_length=200)] | None = None  # that came with the decision


def _few_unknown(model: type[BaseModel], fields: Any) -> Any:
    """`fields` with five of those that `model` does not know: what is to be told of a hundred
    thousand is told of these."""
    known = model.__pydantic_fields__
    if not isinstance(fields, Mapping) or len(fields) <= len(known) + MOST_PROBLEMS:
        return fields
    names = {name for at, field in known.items() for name in (at, field.alias)}
    few = set(islice((name for name in fields if name not in names), MOST_PROBLEMS))
    return {name: value for name, value in fields.items() if name in names or name in few}


# inside a decision, where `validated` does not look
_FewUnknown = BeforeValidator(partial(_few_unknown, Exploration))


class Decision(_Strict):
    """A record of `decisions.v1`, keyed by `decision_id`."""

    schema_: Literal["decision.v1"] = Field(alias="schema")
    decision_id: DecisionId
    application: Name
    contract: Name
    subject_id: Name
    episode_id: Name | None = None
    previous_decision_id: DecisionId | None = None
    decided_at_ms: Milliseconds
    context: dict[str, Any]
    observation: Annotated[list[Float32], _FIRST_ALONE] | None = None
    items: Items | None = None
    eligible_actions: Choices | None = None
    action: Any
    propensity: Propensity
    action_probabilities: Probabilities | None = None
    density: dict[str, Any] | None = None
    baseline_action: Any = None
    policy_version: Annotated[int, Field(ge=0)]
    exploration: Annotated[Exploration | None, _FewUnknown] = None
    draw: Annotated[float, Field(ge=0, lt=1)] | None = None
    mode: Mode = "online"
    cohort: Cohort
    explored: bool = False


class Outcome(_Strict):
    """A record of `outcomes.v1`, keyed by `decision_id`."""

    schema_: Literal["outcome.v1"] = Field(alias="schema")
    outcome_id: Name
    application: Name
    decision_id: DecisionId
    kind: OutcomeKind
    name: Name | None = None
    value: float | None = None
    executed_action: Any = None
    payload: dict[str, Any] | None = None
    occurred_at_ms: Milliseconds


class PolicyPointer(_Strict):
    """A record of `policies.v1`, key `<application>`: written by the learner alone."""

    application: Name
    version: Annotated[int, Field(ge=0)]  # 0: back to the baseline with exploration
    uri: str | None = None  # the bundle's folder; None at version 0
    sha256: str | None = None  # of manifest.json, which holds those of the other files
    published_at_ms: Milliseconds


class Control(_Strict):
    """A record of `policies.v1`, key `<application>/control`: written by serving alone; it wins."""

    application: Name
    pinned_version: Annotated[int, Field(ge=0)] | None = None  # served until released
    frozen: bool = False  # the learner goes on learning, and publishes nothing
    killed: bool = False  # every decision is the baseline's
    # of uniform choice, in place of what policy and page say; None: as they say
    explore_share: Annotated[float, Field(ge=0, le=1)] | None = None
    released_at_ms: Milliseconds = 0  # somebody has looked at what the gate froze before
    retrain_at_ms: Milliseconds = 0  # the learner trains at once where this is newer than it knows
    by: str = ""
    why: str = ""
    at_ms: Milliseconds


class Progress(_Strict):
    """A record of `progress.v1`: how far stream has come."""

    stream_time_ms: Milliseconds  # everything that the broker received before is in the tables
    replay_version: Annotated[int, Field(ge=-1)]  # Delta version that holds it; -1: no table yet
    committed: _Committed  # topic → partition → next offset to be read
    applied_ms: Milliseconds  # when this record was made, by stream's clock


class Status(BaseModel):
    """A record of `status.v1`, key `<part>/<process>`: one a second while anything happens."""

    model_config = ConfigDict(extra="allow", frozen=True)

    part: Literal["serving", "stream", "learner"]
    process: str
    at_ms: Milliseconds


Model = TypeVar("Model", bound=BaseModel)


class Spelling:
    """Says which field was meant by one that does not exist.

    For one request: comparing costs more than all other checks of an entry, so after a few names
    there is no more to say. A name that came before is told again at once.
    """

    def __init__(self) -> None:
        self._meant: dict[str, str | None] = {}

    def meant(self, came: str, fields: Iterable[str]) -> str | None:
        """The field that is most like `came`; None: none is, or too many were asked about."""
        if came not in self._meant:
            if len(self._meant) >= MOST_PROBLEMS or len(came) > LONGEST_NAME:
                return None
            self._meant[came] = next(iter(get_close_matches(came, fields, n=1)), None)
        return self._meant[came]


def validated(
    model: type[Model], fields: Mapping[str, Any], spelling: Spelling | None = None
) -> Model:
    """`fields` as `model`, or InvalidEvent saying which field came how and what was expected.

    Args:
        spelling: of the request, where it has many entries.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        found = error
    known = model.__pydantic_fields__
    if found.error_count() > len(known) + MOST_PROBLEMS:  # to list them costs, not to find them
        try:
            model.model_validate(_few_unknown(model, fields))
        except ValidationError as error:
            found = error
    raise InvalidEvent(describe(found, known, spelling))


def describe(
    error: ValidationError, fields: Iterable[str] = (), spelling: Spelling | None = None
) -> str:
    """The first problems of a validation in one line for a person.

    Args:
        fields: that the model has, for one that is misspelt.
        spelling: of the request, where it has many entries.
    """
    spelling = spelling or Spelling()
    problems = []
    for problem in error.errors(include_url=False)[:MOST_PROBLEMS]:
        field = ".".join(str(part) for part in problem["loc"]) or "body"
        came = "" if problem["type"] == "missing" else f", got {problem['input']!r:.60}"
        said = f"{problem['msg'][0].lower()}{problem['msg'][1:]}"
        if problem["type"] == "extra_forbidden":
            meant = spelling.meant(field, fields)
            said = f"there is no such field{f'; did you mean {meant!r}?' if meant else ''}"
        elif problem.get("ctx", {}).get("pattern") == UUID7:
            said = "expected a UUIDv7 in lower case, such as 0199a0f2-1c00-7000-8000-000000000000"
        problems.append(f"{field:.{LONGEST_NAME}}: {said}{'' if said.endswith('?') else came}")
    return "; ".join(problems)


def problem_with_action(
    application: Application,
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
    application: Application,
    action: Any,
    field: str,
    items: Sequence[Mapping[str, Any]] | None = None,
    eligible: np.ndarray | None = None,
) -> None:
    """Raise InvalidEvent unless `action` is one of the application's; see above."""
    problem = problem_with_action(application, action, items, eligible)
    if problem is not None:
        raise InvalidEvent(
            f"{field}: {action!r:.60} is not an action of {application.name!r}; {problem}"
        )


def check_items(application: Application, items: Sequence[Mapping[str, Any]] | None) -> None:
    """Raise InvalidEvent unless a request's items are what its application ranks."""
    actions = application.actions
    problem = actions.problem_with_items(items) if isinstance(actions, Ranking) else None
    if problem is not None:
        raise InvalidEvent(f"items: {problem}")


def choices_of(
    application: Application, items: Sequence[Mapping[str, Any]] | None = None
) -> Sequence[str]:
    """What a request's eligible and excluded actions may name, in the order of its mask.

    Labels; of several parts `part=label`; of a ranking the ids of the request's items.
    """
    if isinstance(application.actions, Ranking):
        return [item["id"] for item in items or ()]
    return application.actions.choices


def eligible_mask(
    application: Application,
    *,
    eligible: Sequence[str] | None,
    excluded: Sequence[str] | None = None,
    items: Sequence[Mapping[str, Any]] | None = None,
) -> np.ndarray:
    """What a decision may choose from. bool `[A]`

    Of several parts, one that `eligible` does not name keeps all its labels.

    Raises:
        InvalidEvent: an unknown choice, or a part with none left.
    """
    shape, names = application.shape, choices_of(application, items)
    mask = np.zeros(shape.choices, dtype=bool)
    mask[: len(names)] = True
    positions = {name: at for at, name in enumerate(names)}

    def position(name: str, field: str) -> int:
        if name not in positions or shape.kind == "continuous":
            expected = "nothing" if shape.kind == "continuous" else f"some of {list(names)}"
            raise InvalidEvent(
                f"{field}: {name!r:.60} is not an action of {application.name!r}; expected "
                f"{expected:.300}"
            )
        return positions[name]

    if eligible is not None:
        kept = np.zeros(shape.choices, dtype=bool)
        kept[[position(name, "eligible_actions") for name in eligible]] = True
        for start, stop in shape.segments or ((0, shape.choices),):
            if shape.kind != "parts" or kept[start:stop].any():
                mask[start:stop] &= kept[start:stop]
    for name in excluded or ():
        mask[position(name, "excluded_actions")] = False
    for start, stop in shape.segments or ((0, shape.choices),):
        if not mask[start:stop].any():
            raise InvalidEvent(
                "eligible_actions: nothing is left to choose from after excluded_actions; leave "
                f"at least one of {list(names[start:stop])}"
            )
    return mask


def check_outcome(application: Application, outcome: OutcomeRequest | Outcome) -> None:
    """What one field's type cannot say: what each kind of outcome needs."""
    if outcome.kind == "reward" and outcome.name is None:
        raise InvalidEvent(
            "name: missing; an outcome of kind 'reward' is named, such as 'level_won'"
        )
    if outcome.kind == "executed":
        check_executed(application, outcome.executed_action)
    elif outcome.executed_action is not None:
        raise InvalidEvent(
            f"executed_action: goes with kind 'executed', and this outcome is a {outcome.kind!r}"
        )
    if outcome.outcome_id is not None and outcome.outcome_id.startswith("next:"):
        raise InvalidEvent("outcome_id: ids that begin with 'next:' are the stream's own")


def check_executed(application: Application, action: Any) -> None:
    """Raise InvalidEvent unless an `executed_action` can be one of the application's.

    The items of a ranking are not known here: any list of ids is taken.
    """
    if isinstance(application.actions, Ranking):
        if not isinstance(action, list) or not all(is_text(one) for one in action):
            raise InvalidEvent(f"executed_action: {action!r:.60}; expected a list of item ids")
        return
    check_action(application, action, "executed_action")


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
        own_from_density(application.shape, decision.density)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidEvent(
            f"density: {type(error).__name__}: {error}; expected what serving logs of a "
            f"{application.shape.kind} action"
        ) from None


def _application(applications: Mapping[str, Application], name: str) -> Application:
    found = applications.get(name)
    if found is None:
        raise UnknownApplication(
            f"application: {name!r:.80} is not served here; there are {sorted(applications)}"
        )
    return found


def check_id_time(decision_id: str, at_ms: int, field: str = "decision_id") -> None:
    """Raise InvalidEvent where an id's own time is more than a day from `at_ms`."""
    if abs(uuid7_time_ms(decision_id) - at_ms) > DAY_MS:
        raise InvalidEvent(
            f"{field}: {decision_id} carries a time more than a day from the broker's; "
            "make ids with the current time (UUIDv7)"
        )


def read_decision(
    value: bytes, applications: Mapping[str, Application], *, received_at_ms: int
) -> Decision:
    """A record of `decisions.v1`, fully checked. Raises InvalidEvent."""
    decision = validated(Decision, parse_object(value))
    check_id_time(decision.decision_id, received_at_ms)
    if decision.previous_decision_id == decision.decision_id:
        raise InvalidEvent("previous_decision_id: a decision cannot precede itself")
    check_decision(_application(applications, decision.application), decision)
    return decision


def read_outcome(value: bytes, applications: Mapping[str, Application]) -> Outcome:
    """A record of `outcomes.v1`, fully checked. Raises InvalidEvent."""
    outcome = validated(Outcome, parse_object(value))
    check_outcome(_application(applications, outcome.application), outcome)
    return outcome


def read_control(value: bytes, *, received_at_ms: int) -> Control:
    """A control record of `policies.v1`, fully checked. Raises InvalidEvent.

    The newest control wins, so one from far ahead would outlast every other for good.

    Args:
        received_at_ms: the broker's time of the record.
    """
    control = validated(Control, parse_object(value))
    if control.at_ms > received_at_ms + DAY_MS:
        raise InvalidEvent(
            f"at_ms: {control.at_ms} is more than a day ahead of the broker's {received_at_ms}; "
            "the controls of before stay in force"
        )
    return control


EVENTS: dict[str, type[BaseModel]] = {
    "decisions.v1": Decision,
    "outcomes.v1": Outcome,
    "policies.v1": PolicyPointer,
    "policies.v1-control": Control,
    "progress.v1": Progress,
    "status.v1": Status,
}
