"""What passes the doors, HTTP and Kafka alike, and what is told to whom does not."""

import contextlib
import json
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakehouse_schemas.application.application import Application, Discrete, minutes
from bakehouse_schemas.application.observation import Categorical, Numeric
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.errors import InvalidContext, InvalidEvent, UnknownApplication
from bakehouse_schemas.events import jsonschema, validation
from bakehouse_schemas.events.events import EVENTS, DecisionRequest, OutcomeRequest
from bakehouse_schemas.events.fields import DAY_MS
from bakehouse_schemas.events.records import read_decision, read_outcome
from bakehouse_schemas.events.validation import describe, validated
from bakehouse_schemas.events.wire import parse_object
from bakehouse_schemas.ids import (
    ID_RULE,
    is_decision_id,
    is_uuid7,
    own_hour,
    uuid7,
    uuid7_hour,
    uuid7_time_ms,
)
from bakehouse_serving.control_routes import ControlRequest

NOW_MS = time.time_ns() // 1_000_000

APPLICATION = Application(
    name="shop",
    observation=[Numeric("skill", low=0, high=1), Categorical("plan", values=["free", "paid"])],
    actions=Discrete("a", "b", "c"),
    reward=Reward({"bought": 1.0}, window=minutes(1)),
    baseline=lambda context: "a",
)
APPLICATIONS = {"shop": APPLICATION}


def decision(**changes: object) -> bytes:
    event = {
        "schema": "decision.v1",
        "decision_id": uuid7(NOW_MS),
        "application": "shop",
        "contract": APPLICATION.contract,
        "subject_id": "p1",
        "decided_at_ms": NOW_MS,
        "context": {"skill": 0.5, "plan": "free"},
        "observation": [0.5, 1.0, 0.0],
        "action": "a",
        "propensity": 0.5,
        "action_probabilities": {"a": 0.5, "b": 0.25, "c": 0.25},
        "policy_version": 3,
        "cohort": "policy",
    } | changes
    return json.dumps({k: v for k, v in event.items() if v is not ...}).encode()


def outcome(**changes: object) -> bytes:
    event = {
        "schema": "outcome.v1",
        "outcome_id": "o1",
        "application": "shop",
        "decision_id": uuid7(NOW_MS),
        "kind": "reward",
        "name": "bought",
        "occurred_at_ms": NOW_MS,
    } | changes
    return json.dumps({k: v for k, v in event.items() if v is not ...}).encode()


def test_a_good_decision_and_a_good_outcome_pass():
    assert read_decision(decision(), APPLICATIONS, received_at_ms=NOW_MS).action == "a"
    assert read_outcome(outcome(), APPLICATIONS).name == "bought"


def test_a_decision_without_observation_passes_when_its_context_can_be_encoded():
    assert read_decision(decision(observation=...), APPLICATIONS, received_at_ms=NOW_MS)
    with pytest.raises(InvalidContext, match="skill"):
        read_decision(
            decision(observation=..., context={"plan": "free"}),
            APPLICATIONS,
            received_at_ms=NOW_MS,
        )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"action": "z"}, "not an action"),
        ({"action": 0}, "not an action"),
        ({"propensity": 0.0}, "greater than 0"),
        ({"propensity": 0.4}, "differs from action_probabilities"),
        ({"propensity": 2.0, "action_probabilities": ...}, "above 1"),
        ({"propensity": "0.5"}, "propensity"),
        ({"action_probabilities": {"a": 0.5, "b": 0.1}}, "add up to"),
        ({"eligible_actions": ["b"]}, "not among eligible_actions"),
        ({"eligible_actions": ["a", "z"]}, "not an action"),
        ({"observation": [0.5]}, "expected 3"),
        ({"decision_id": "not an\nid"}, "decision_id"),
        ({"decision_id": uuid7(NOW_MS - 2 * DAY_MS)}, "more than a day"),
        ({"subject_id": ""}, "subject_id"),
        ({"subject_id": ...}, "subject_id"),
        ({"decided_at_ms": 1.5}, "decided_at_ms"),
        ({"cohort": "vip"}, "cohort"),
        ({"schema": "decision.v2"}, "schema"),
    ],
)
def test_a_bad_decision_is_refused_with_the_field_and_the_reason(changes, says):
    with pytest.raises(InvalidEvent, match=says):
        read_decision(decision(**changes), APPLICATIONS, received_at_ms=NOW_MS)


def test_a_decision_of_another_contract_is_kept_as_history():
    old = decision(contract="0123", action="gone", action_probabilities=..., observation=[1.0])
    assert read_decision(old, APPLICATIONS, received_at_ms=NOW_MS).action == "gone"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": ...}, "is named"),
        ({"kind": "executed", "name": ...}, "not an action"),
        ({"kind": "executed", "executed_action": "z"}, "not an action"),
        ({"executed_action": "a"}, "goes with kind 'executed'"),
        ({"kind": "next"}, "kind"),
        ({"outcome_id": "next:1"}, "stream's own"),
        ({"value": "1"}, "value"),
        ({"value": True}, "value"),
        ({"occurred_at_ms": -1}, "occurred_at_ms"),
        ({"decision_id": ""}, "decision_id"),
    ],
)
def test_a_bad_outcome_is_refused_with_the_field_and_the_reason(changes, says):
    with pytest.raises(InvalidEvent, match=says):
        read_outcome(outcome(**changes), APPLICATIONS)


WRONG = (
    [1] * 1_000,
    [{}] * 1_000,
    ["x"] * 1_000,
    [None] * 1_000,
    {f"{at:x}": "x" for at in range(1_000)},
    {f"{at:x}": {"x": "x"} for at in range(1_000)},
    {"x": {f"{at:x}": "x" for at in range(1_000)}},
)


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (model, field)
        for model in (DecisionRequest, OutcomeRequest, ControlRequest, *EVENTS.values())
        for field in (*model.model_fields, None)
    ],
)
def test_of_a_thousand_wrong_entries_the_first_are_found_and_told(model, field, monkeypatch):
    found = []

    def count(error, *more):
        found.append(error.error_count())
        return describe(error, *more)

    monkeypatch.setattr(validation, "describe", count)
    for wrong in WRONG:
        fields = wrong if field is None else {field: wrong}
        if isinstance(fields, dict):
            with contextlib.suppress(InvalidEvent):
                validated(model, fields)
    assert max(found) <= len(model.model_fields) + 5


def test_a_misspelt_field_and_an_id_of_another_kind_say_what_was_meant():
    asked = {"subject_id": "p", "context": {}}
    with pytest.raises(InvalidEvent, match="decison_id: there is no such field; did you mean 'de"):
        validated(DecisionRequest, asked | {"decison_id": "x"})
    with pytest.raises(InvalidEvent, match="foo: there is no such field, got 1"):
        validated(DecisionRequest, asked | {"foo": 1})
    with pytest.raises(InvalidEvent, match=r"decision_id: expected 1 to 128 bytes .*, got ''"):
        validated(DecisionRequest, asked | {"decision_id": ""})


def test_an_unknown_application_is_named_with_those_that_are_served():
    with pytest.raises(UnknownApplication, match=r"'chess' is not served here; there are \['shop"):
        read_outcome(outcome(application="chess"), APPLICATIONS)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "not JSON"),
        (b'{"a": 1e999}', "64-bit float"),
        (b'{"a": 9223372036854775808}', "64-bit integer"),
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b'{"a": "\\ud800"}', "UTF-8"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b"[1]", "expected a JSON object, got list"),
        (b"", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_json_that_readers_would_read_differently_is_refused(body, says):
    with pytest.raises(InvalidEvent, match=says):
        parse_object(body)


@given(st.binary(max_size=300))
def test_no_bytes_whatsoever_crash_a_door(body):
    for read in (
        lambda: read_decision(body, APPLICATIONS, received_at_ms=NOW_MS),
        lambda: read_outcome(body, APPLICATIONS),
    ):
        with pytest.raises(InvalidEvent):
            read()


NO_ID = ["", "x" * 129, "é" * 65, "a\nb", "\x00", "\x7f", "a\x85", "a\u2028b", "\ud800"]
ODD_IDS = [
    " ",
    "match-7/round 3",
    "5f0c1e0e-7f2b-4d55-9a2e-2f3d1f0a9c11",  # crypto.randomUUID()
    "01A204A1-9C69-7000-8493-0A2AE2FAB7A9",
    "é" * 64,
    "🎲" * 32,
    "x" * 128,
]


@pytest.mark.parametrize("text", NO_ID)
def test_what_names_no_decision_is_refused_with_words_at_every_door(text):
    said = f"decision_id: expected {ID_RULE}, got "
    for model, event in (
        (DecisionRequest, {"subject_id": "p", "context": {}, "decision_id": text}),
        (DecisionRequest, {"subject_id": "p", "context": {}, "previous_decision_id": text}),
        (OutcomeRequest, {"name": "won", "decision_id": text}),
    ):
        with pytest.raises(InvalidEvent, match=said):
            validated(model, event)


@pytest.mark.parametrize("text", ODD_IDS)
def test_any_other_text_names_a_decision_and_carries_no_time(text):
    made = read_decision(
        decision(decision_id=text, previous_decision_id="the one before"),
        APPLICATIONS,
        received_at_ms=NOW_MS,
    )
    assert made.decision_id == text
    assert read_outcome(outcome(decision_id=text), APPLICATIONS).decision_id == text
    assert own_hour(text) is None


def test_the_hour_of_a_uuid7_is_the_one_inside_it():
    assert own_hour(uuid7(NOW_MS)) == NOW_MS // 3_600_000


@given(st.text(max_size=140))
def test_an_id_is_at_most_128_bytes_without_a_control_character(text):
    with contextlib.suppress(UnicodeEncodeError):
        size = len(text.encode())
        controls = any(unicodedata.category(sign) in ("Cc", "Zl", "Zp") for sign in text)
        assert is_decision_id(text) == (0 < size <= 128 and not controls)


@given(st.integers(0, 2**48 - 1))
def test_a_uuid7_carries_its_time_and_sorts_by_it(now_ms):
    made = uuid7(now_ms)
    assert is_uuid7(made)
    assert uuid7_time_ms(made) == now_ms
    assert uuid7_hour(made) == now_ms // 3_600_000
    assert made < uuid7(now_ms + 1) or now_ms == 2**48 - 1


def test_the_checked_in_json_schemas_are_those_of_the_code():
    for name, text in jsonschema.generated().items():
        assert (jsonschema.FOLDER / name).read_text() == text, (
            "run python -m bakehouse_schemas.events.jsonschema"
        )


def nested(levels: int) -> bytes:
    return decision(context={"skill": 0.5, "plan": "free", "mood": "@"}).replace(
        b'"@"', b"[" * levels + b"]" * levels
    )


def test_a_context_nested_deeper_than_the_tables_can_write_is_refused():
    # the event and its context are two levels; orjson, which writes the row, stops at 254
    assert read_decision(nested(98), APPLICATIONS, received_at_ms=NOW_MS)
    for levels in (99, 252, 300, 900):
        with pytest.raises(InvalidEvent, match="nested too deeply: beyond 100 levels"):
            read_decision(nested(levels), APPLICATIONS, received_at_ms=NOW_MS)


def test_many_brackets_beside_each_other_and_inside_texts_are_not_depth():
    wide = {"a": [[], {}] * 1000, "b": "[" * 1000}
    assert parse_object(json.dumps(wide).encode()) == wide
