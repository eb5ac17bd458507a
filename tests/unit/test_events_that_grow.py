"""What a later release adds passes through this one; what this one does not know yet waits."""

from __future__ import annotations

import dataclasses
import json

import orjson
import pytest

from bakehouse import Agent
from bakehouse_learner.online.bus import BusState
from bakehouse_schemas.application.actions import Continuous, Discrete, Parts
from bakehouse_schemas.application.application import Application, minutes
from bakehouse_schemas.application.exploration import LoggedExploration, with_share
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.contracts.contract import contract_of
from bakehouse_schemas.errors import InvalidEvent, UnknownApplication, UnknownLabel, UnknownSchema
from bakehouse_schemas.events.checks import check_executed
from bakehouse_schemas.events.events import (
    EVENTS,
    Control,
    DecisionRequest,
    OutcomeRequest,
    PolicyPointer,
)
from bakehouse_schemas.events.records import read_control, read_order, read_outcome
from bakehouse_schemas.events.validation import validated
from bakehouse_schemas.policy.bundle import Manifest
from bakehouse_stream.kafka.decode import QUARANTINE_BYTES, Decoder, Record
from tests.stream_events import APPLICATION, decision, outcome

A = "01a204a1-9c69-7000-8493-0a2ae2fab7a9"
AT_MS = int(A[:8] + A[9:13], 16) + 1_000
ADDED = {"region": "eu", "trace": {"b": [1, None], "a": "x"}, "later": None}
CANONICAL = '{"later":null,"region":"eu","trace":{"a":"x","b":[1,null]}}'


def record(topic: str, event: dict) -> Record:
    return Record(topic, 0, 0, AT_MS, b"key", orjson.dumps(event))


def decoder(**more: object) -> Decoder:
    return Decoder({APPLICATION.name: APPLICATION}, "decisions", **more)


def test_the_added_fields_of_a_decision_and_of_an_outcome_are_kept_as_canonical_json():
    (row,) = decoder().single(record("decisions", decision(A) | ADDED))
    assert row["replay"]["extra"] == CANONICAL
    (row,) = decoder().single(record("outcomes", outcome(A) | ADDED))
    assert row["outcome"]["extra"] == CANONICAL
    pair = record("decisions", decision(A)), record("outcomes", outcome(A) | ADDED)
    (row,) = decoder().pair(*pair)
    assert row["replay"]["extra"] is None
    assert row["replay"]["outcomes"][0]["extra"] == CANONICAL


def test_what_a_later_release_adds_to_an_exploration_is_logged_on():
    came = {"kind": "epsilon_greedy", "epsilon": 0.5, "decay": "cosine"}
    (row,) = decoder().single(record("decisions", decision(A, exploration=came)))
    assert json.loads(row["replay"]["exploration"]) == came | {"floor": 0.0}
    kept = with_share(LoggedExploration.model_validate(came), 0.25)
    assert kept.logged() == {"kind": "epsilon_greedy", "epsilon": 0.25, "floor": 0.0} | {
        "decay": "cosine"
    }


@pytest.mark.parametrize("name", [name for name in EVENTS if name != "status.v1"])
def test_each_events_json_schema_lets_added_fields_through(name):
    assert EVENTS[name].model_json_schema()["additionalProperties"] is True


def test_requests_over_http_are_no_events_and_stay_strict():
    asked = {"subject_id": "p", "context": {}, "subjct_id": "q"}
    with pytest.raises(InvalidEvent, match="did you mean 'subject_id'"):
        validated(DecisionRequest, asked)
    with pytest.raises(InvalidEvent, match="region: there is no such field"):
        validated(OutcomeRequest, {"decision_id": A, "name": "won", "region": "eu"})


def test_controls_and_pointers_are_passed_on_with_what_was_added():
    control = Control.model_validate({"application": "shop", "at_ms": 1} | ADDED)
    passed = control.model_copy(update={"killed": True}).model_dump()
    assert read_control(orjson.dumps(passed), received_at_ms=1).model_dump() == passed
    assert passed["trace"] == ADDED["trace"]
    fields = {"application": "shop", "version": 0, "published_at_ms": 1} | ADDED
    pointer = validated(PolicyPointer, fields)
    assert json.loads(pointer.model_dump_json())["region"] == "eu"


def test_a_manifest_of_a_later_release_is_read_and_written_with_what_was_added():
    fields = {
        "application": "shop",
        "contract": "c",
        "version": 1,
        "lineage": "l",
        "anchor": 0,
        "agent": "lin_ts",
        "actions": ["a"],
        "operations": [],
        "head": {"kind": "argmax"},
        "exploration": {"kind": "none", "added": 1},
        "seed": 0,
        "replay_version": 0,
        "stream_time_ms": 0,
        "created_at_ms": 0,
        "experiences": 0,
        "new_experiences": 0,
        "new_outcomes_received_at_ms": [],
    }
    read = Manifest.model_validate_json(json.dumps(fields | ADDED))
    again = json.loads(read.model_dump_json(by_alias=True))
    assert again["trace"] == ADDED["trace"]
    assert again["exploration"]["added"] == 1


@pytest.mark.parametrize("topic", ["decisions", "outcomes"])
def test_another_major_version_waits_and_the_reason_says_for_what(topic):
    event = decision(A) if topic == "decisions" else outcome(A)
    kind = event["schema"].partition(".")[0]
    (row,) = decoder().single(record(topic, event | {"schema": f"{kind}.v2", "unread": "x" * 99}))
    kept = row["quarantined"]
    assert kept["waits"] == UnknownSchema.waits == "schema"
    assert f"this release reads '{kind}.v1'" in kept["reason"]
    assert "bakehouse requeue" in kept["reason"]


@pytest.mark.parametrize("schema", ["decision", "decision.v1.1", "outcome.v1", "", 2, None])
def test_what_is_no_version_of_the_schema_at_all_is_simply_wrong(schema):
    (row,) = decoder().single(record("decisions", decision(A) | {"schema": schema}))
    assert row["quarantined"]["waits"] is None


def test_what_waits_is_kept_whole_and_garbage_is_cut():
    long = {"padding": "é" * QUARANTINE_BYTES}
    waiting = record("outcomes", outcome(A, application="chess") | long)
    (row,) = decoder().single(waiting)
    assert row["quarantined"]["waits"] == UnknownApplication.waits == "application"
    assert row["quarantined"]["value"].encode() == waiting.value
    (row,) = decoder().single(record("outcomes", outcome(A, value="high") | long))
    assert row["quarantined"]["waits"] is None
    assert len(row["quarantined"]["value"].encode()) <= QUARANTINE_BYTES + 2


def test_an_executed_label_of_an_earlier_contract_is_taken_and_of_none_waits():
    done = outcome(A, kind="executed", name=None, value=None, executed_action="retired")
    (row,) = decoder().single(record("outcomes", done))
    assert row["quarantined"]["waits"] == UnknownLabel.waits == "label"
    before = dataclasses.replace(APPLICATION, actions=Discrete("easy", "retired"))
    known = decoder(known={APPLICATION.name: [contract_of(before)]})
    (row,) = known.single(record("outcomes", done))
    assert row["outcome"]["executed_action"] == '"retired"'
    (row,) = known.single(record("outcomes", done | {"executed_action": 7}))
    assert row["quarantined"]["waits"] is None


def test_executed_actions_of_numbers_and_of_parts_wait_where_another_contract_may_have_them():
    def of(actions, agent):
        return Application(
            name="shop",
            observation=[Numeric("skill", low=0, high=1)],
            actions=actions,
            reward=Reward({"won": 1.0}, window=minutes(1)),
            baseline=lambda context: None,
            agent=Agent(agent),
        )

    numbers = of(Continuous(low=0.0, high=1.0), "td3")
    with pytest.raises(UnknownLabel, match="expected from 0 to 1"):
        check_executed(numbers, [1.5])
    with pytest.raises(InvalidEvent) as wrong:
        check_executed(numbers, "fast")
    assert wrong.value.waits is None
    parts = of(Parts({"mode": Discrete("a", "b"), "speed": Continuous(low=0.0, high=1.0)}), "ppo")
    before = of(Parts({"mode": Discrete("a", "c"), "speed": Continuous(low=0.0, high=2.0)}), "ppo")
    check_executed(parts, {"mode": "c", "speed": [1.5]}, [contract_of(before)])
    for action in ({"mode": "d", "speed": [0.5]}, {"mode": "a", "pace": [0.5]}, {}):
        with pytest.raises(UnknownLabel):
            check_executed(parts, action, [contract_of(before)])


def test_an_order_to_stream_is_read_and_a_learner_passes_over_it():
    said = {"order": "requeue", "at_ms": 5, "application": "shop", "added": 1}
    order = read_order(orjson.dumps(said), received_at_ms=5)
    assert (order.order, order.application, order.everything) == ("requeue", "shop", False)
    with pytest.raises(InvalidEvent, match="more than a day ahead"):
        read_order(orjson.dumps(said | {"at_ms": 10**10}), received_at_ms=5)
    heard = BusState()
    heard.policies("@stream/requeue", orjson.dumps(said), received_at_ms=5)
    assert heard.control("@stream") is None


def test_an_unknown_application_is_still_told_with_those_that_there_are():
    with pytest.raises(UnknownApplication, match="'chess' is not served here"):
        read_outcome(orjson.dumps(outcome(A, application="chess")), {"shop": APPLICATION})
