"""Rules of exploration: what they come down to, when, and for which actions."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bakehouse_schemas.application.application import Agent, Application, Discrete, seconds
from bakehouse_schemas.application.exploration import (
    EXPLORES,
    AgentsOwn,
    EpsilonGreedy,
    Exploration,
    Gaussian,
    Softmax,
    Thompson,
    default_exploration,
)
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.errors import ApplicationError


@pytest.mark.parametrize(
    ("schedule", "halfway"),
    [("linear", 0.3), ("exponential", math.sqrt(0.5 * 0.1)), ("cosine", 0.3)],
)
def test_a_schedule_goes_from_its_start_to_its_end_and_stays(schedule: Any, halfway: float) -> None:
    rule = EpsilonGreedy(0.1, start=0.5, decay=1_000, schedule=schedule)
    assert rule.after(0).epsilon == pytest.approx(0.5)
    assert rule.after(500).epsilon == pytest.approx(halfway)
    assert rule.after(1_000).epsilon == pytest.approx(0.1)
    assert rule.after(1 << 40).epsilon == pytest.approx(0.1)


def test_a_cosine_begins_and_ends_slowly() -> None:
    rule = EpsilonGreedy(0.1, start=0.5, decay=1_000, schedule="cosine")
    assert rule.after(100).epsilon > 0.5 - 0.4 * 0.1  # above the straight line
    assert rule.after(900).epsilon < 0.5 - 0.4 * 0.9


@given(
    st.floats(0.001, 1.0),
    st.floats(0.001, 1.0),
    st.integers(1, 10_000),
    st.sampled_from(["linear", "exponential", "cosine"]),
)
def test_a_schedule_never_turns_back(start: float, final: float, decay: int, schedule: Any) -> None:
    rule = EpsilonGreedy(final, start=start, decay=decay, schedule=schedule)
    values = [rule.epsilon_after(decay * n // 7) for n in range(10)]
    rising = sorted(values) if final >= start else sorted(values, reverse=True)
    assert values == pytest.approx(rising)
    assert all(min(start, final) - 1e-9 <= value <= max(start, final) + 1e-9 for value in values)


def test_without_a_start_a_rule_is_its_final_value_from_the_first_decision() -> None:
    assert EpsilonGreedy(0.2).after(0).epsilon == 0.2
    assert Gaussian(0.2, start=None).after(0).std == 0.2
    assert Softmax(0.2).after(0).temperature == 0.2


@pytest.mark.parametrize("rule", [Softmax(0.1), Thompson(), AgentsOwn()])
def test_rules_that_need_an_agent_begin_with_uniform_choice(rule: Any) -> None:
    assert rule.after(0).epsilon == 0.5
    assert rule.after(1).epsilon == 0.0
    assert rule.after(1).floor == 0.01


def test_gaussian_noise_is_a_share_of_the_range_and_floored_by_uniform() -> None:
    found = Gaussian(0.1, start=0.3, decay=100, floor=0.02).after(50)
    assert found.std == pytest.approx(0.2)
    assert (found.kind, found.floor, found.epsilon) == ("gaussian", 0.02, 0.0)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: EpsilonGreedy(0.0), "without exploration nothing can be learned"),
        (lambda: EpsilonGreedy(True), "must be in (0, 1]"),
        (lambda: EpsilonGreedy(0.1, start=0.0), "EpsilonGreedy(start=0.0)"),
        (lambda: EpsilonGreedy(0.1, floor=0.0), "must be in (0, 0.5]"),
        (lambda: EpsilonGreedy(0.1, decay=0), "at least 1 decision"),
        (lambda: EpsilonGreedy(0.1, schedule="wavy"), "one of ('linear'"),  # type: ignore[arg-type]
        (lambda: Softmax(0.0), "above 0"),
        (lambda: Softmax(0.1, start="hot"), "above 0"),  # type: ignore[arg-type]
        (lambda: Softmax(0.1, uniform=0.0), "Softmax(uniform"),
        (lambda: Gaussian(0.0), "must be in (0, 2]"),
        (lambda: Gaussian(0.1, start=3.0), "Gaussian(start=3.0)"),
        (lambda: Thompson(uniform=2.0), "Thompson(uniform"),
        (lambda: AgentsOwn(uniform=0.0), "AgentsOwn(uniform"),
    ],
)
def test_an_impossible_rule_is_refused_when_it_is_written(made: Any, says: str) -> None:
    with pytest.raises(ApplicationError) as refused:
        made()
    assert says in str(refused.value)


def test_every_kind_of_actions_has_a_default_that_explores_it() -> None:
    for kind in ("discrete", "continuous", "parts", "ranking"):
        for own in (True, False):
            assert kind in default_exploration(kind, own=own).kinds
    assert isinstance(default_exploration("continuous", own=False), Gaussian)
    assert isinstance(default_exploration("ranking", own=False), EpsilonGreedy)
    assert {kind for rule in EXPLORES for kind in rule.kinds} == {
        "discrete",
        "continuous",
        "parts",
        "ranking",
    }


def test_what_is_logged_reads_back_and_leaves_out_what_was_not_said() -> None:
    for rule in (EpsilonGreedy(0.1), Softmax(0.1), Thompson(), Gaussian(0.1), AgentsOwn()):
        found = rule.after(10)
        assert Exploration(**found.logged()) == found
    assert EpsilonGreedy(0.1).after(0).logged() == {
        "kind": "epsilon_greedy",
        "epsilon": 0.1,
        "floor": 0.01,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "epsilon_greedy", "epsilon": 1.5},
        {"kind": "gaussian", "std": 0.0},
        {"kind": "softmax", "temperature": math.inf},
        {"kind": "wild"},
        {"kind": "none", "luck": 1},
    ],
)
def test_a_logged_exploration_that_says_something_impossible_is_refused(
    fields: dict[str, Any],
) -> None:
    with pytest.raises(ValidationError):
        Exploration(**fields)


def test_thompson_draws_for_an_agent_that_says_which_action_may_be_the_best() -> None:
    def page(agent: str, exploration: Any) -> Application:
        return Application(
            name="game",
            observation=[Numeric("x", low=0, high=1)],
            actions=Discrete("a", "b"),
            reward=Reward({"won": 1.0}, window=seconds(1)),
            baseline=lambda context: "a",
            agent=Agent(agent),
            exploration=exploration,
        )

    assert page("lin_ts", Thompson()).exploration.after(10).kind == "thompson"
    assert isinstance(page("lin_ts", None).exploration, AgentsOwn)
    with pytest.raises(ApplicationError, match="use lin_ts"):
        page("neural_greedy", Thompson())
