"""Which outcomes count, and why the others do not, in words; by the rule itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bakehouse_schemas.application.reward import DecisionTimes, Reward, TimedOutcome, matured_at_ms
from bakehouse_schemas.replay.verdicts import verdicts

TIMES = DecisionTimes(decided_at_ms=1_000, received_at_ms=1_100)


def outcome(
    outcome_id: str,
    name: str | None = "won",
    *,
    after_ms: int = 500,
    late_ms: int = 100,
    kind: str = "reward",
    value: float | None = None,
) -> TimedOutcome:
    occurred = TIMES.decided_at_ms + after_ms
    return TimedOutcome(outcome_id, kind, name, value, occurred, occurred + late_ms)


def rule(**changes: Any) -> Reward:
    given_: dict[str, Any] = {"weights": {"won": 2.0, "quit": -1.0}, "window": timedelta(seconds=8)}
    return Reward(**given_ | changes)


def why(reward: Reward, *outcomes: TimedOutcome) -> dict[str, tuple[bool, str]]:
    at_ms = matured_at_ms(reward, TIMES, outcomes)
    found = verdicts(reward, TIMES, outcomes, matured_at_ms=at_ms)
    return {one.outcome.outcome_id: (one.counted, one.why) for one in found}


def test_what_counts_says_what_it_adds():
    assert why(rule(), outcome("a", value=3.0)) == {"a": (True, "2 × 3")}
    assert why(rule(), outcome("a"), outcome("b", "quit")) == {
        "a": (True, "2 × 1, one of 2 in the sum"),
        "b": (True, "-1 × 1, one of 2 in the sum"),
    }


def test_what_occurred_after_the_window_never_counts():
    assert why(rule(), outcome("a", after_ms=8_001)) == {
        "a": (False, "it occurred after the window of 8 seconds")
    }


def test_a_name_without_weight_and_a_kind_that_is_no_reward_say_so():
    found = why(rule(), outcome("a", "shared"), outcome("b", None, kind="end"))
    assert found["a"] == (False, "the reward gives this name no weight")
    assert found["b"] == (False, "it closes the decision, and is no reward")


def test_what_was_delivered_late_amends_or_is_dropped():
    late = outcome("a", late_ms=20_000)
    counted, words = why(rule(), late)["a"]
    assert (
        counted and words == "2 × 1; it was delivered after the decision had matured, and amends it"
    )
    counted, words = why(rule(late="drop"), late)["a"]
    assert not counted and "late='drop'" in words


def test_what_was_never_seen_counts_for_nothing():
    activated = outcome("seen", None, kind="activated")
    assert why(rule(activation=True), outcome("a"))["a"] == (
        False,
        "no `activated` came within 8 seconds: what was not seen was not decided",
    )
    assert why(rule(activation=True), outcome("a"), activated)["a"] == (True, "2 × 1")


def test_of_several_the_one_that_decides_is_named():
    first, second = outcome("a", after_ms=100), outcome("b", after_ms=200, value=5.0)
    assert why(rule(aggregate="first"), second, first) == {
        "a": (True, "2 × 1, the first of 2"),
        "b": (True, "2 × 5, not the first of 2"),
    }
    assert why(rule(aggregate="max"), first, second)["b"] == (True, "2 × 5, the max of 2")


outcomes = st.builds(
    outcome,
    st.uuids().map(str),
    st.sampled_from(["won", "quit", "shared"]),
    after_ms=st.integers(-1_000, 12_000),
    late_ms=st.integers(0, 20_000),
    kind=st.sampled_from(["reward", "reward", "activated", "end", "executed"]),
    value=st.none() | st.floats(-5, 5),
)


@given(
    st.lists(outcomes, max_size=8, unique_by=lambda one: one.outcome_id),
    st.sampled_from(["amend", "drop"]),
    st.booleans(),
)
def test_the_words_are_those_of_the_rule(several, late, activation):
    reward = rule(late=late, activation=activation)
    at_ms = matured_at_ms(reward, TIMES, several)
    found = verdicts(reward, TIMES, several, matured_at_ms=at_ms)
    said = [one.outcome for one in found if one.counted]
    counted = reward.counted(TIMES, several, matured_at_ms=at_ms)
    assert said == (counted if reward.is_active(TIMES, several) else [])
    assert all(one.why for one in found)
