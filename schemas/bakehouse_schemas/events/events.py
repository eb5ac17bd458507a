"""The events on Kafka and the bodies over HTTP.

Values are JSON; times are integer milliseconds, UTC. Actions are labels, never indices.
`schemas/bakehouse_schemas/events/json/` holds the JSON Schema of each event, generated from this
file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bakehouse_schemas.application.exploration import LoggedExploration
from bakehouse_schemas.events.fields import (
    FIRST_ALONE,
    Choices,
    Cohort,
    Committed,
    DecisionId,
    Float32,
    Items,
    Milliseconds,
    Mode,
    Name,
    OutcomeKind,
    Probabilities,
    Propensity,
)


class _Strict(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )


class _Event(_Strict):
    """What travels over Kafka. A field that a later release added is kept and passed on; one that
    changes what the others mean comes with another major version of the schema."""

    model_config = ConfigDict(extra="allow")

    @property
    def unknown(self) -> Mapping[str, Any] | None:
        """The fields that this release does not know, None where there are none."""
        return self.__pydantic_extra__ or None


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


class Decision(_Event):
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
    observation: Annotated[list[Float32], FIRST_ALONE] | None = None
    items: Items | None = None
    eligible_actions: Choices | None = None
    action: Any
    propensity: Propensity
    action_probabilities: Probabilities | None = None
    density: dict[str, Any] | None = None
    baseline_action: Any = None
    policy_version: Annotated[int, Field(ge=0)]
    exploration: LoggedExploration | None = None
    draw: Annotated[float, Field(ge=0, lt=1)] | None = None
    mode: Mode = "online"
    cohort: Cohort
    explored: bool = False


class Outcome(_Event):
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


class PolicyPointer(_Event):
    """A record of `policies.v1`, key `<application>`: written by the learner alone."""

    application: Name
    version: Annotated[int, Field(ge=0)]  # 0: back to the baseline with exploration
    uri: str | None = None  # the bundle's folder; None at version 0
    sha256: str | None = None  # of manifest.json, which holds those of the other files
    published_at_ms: Milliseconds


class Control(_Event):
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


class Progress(_Event):
    """A record of `progress.v1`: how far stream has come."""

    stream_time_ms: Milliseconds  # everything that the broker received before is in the tables
    replay_version: Annotated[int, Field(ge=-1)]  # Delta version that holds it; -1: no table yet
    committed: Committed  # topic → partition → next offset to be read
    applied_ms: Milliseconds  # when this record was made, by stream's clock


ORDERS_TO_STREAM = b"@stream/"  # what their keys begin with


class Order(_Event):
    """A record of `policies.v1`, key `@stream/<order>`: what people ask of stream.

    Parts that look for an application's name in the key pass over it: none begins with `@`.
    """

    order: Annotated[str, Field(min_length=1, max_length=40)]
    application: Name | None = None  # None: whatever there is
    everything: bool = False
    by: str = ""
    why: str = ""
    at_ms: Milliseconds


class Status(BaseModel):
    """A record of `status.v1`, key `<part>/<process>`: one a second while anything happens."""

    model_config = ConfigDict(extra="allow", frozen=True)

    part: Literal["serving", "stream", "learner"]
    process: str
    at_ms: Milliseconds


EVENTS: dict[str, type[BaseModel]] = {
    "decisions.v1": Decision,
    "outcomes.v1": Outcome,
    "policies.v1": PolicyPointer,
    "policies.v1-control": Control,
    "policies.v1-order": Order,
    "progress.v1": Progress,
    "status.v1": Status,
}
