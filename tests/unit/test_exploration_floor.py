"""A floor that nobody wrote never makes more random than the rule says."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakehouse.describe import exploration_words
from bakehouse_learner.gate.evidence import Collector
from bakehouse_learner.offline.tuning.search_space import lines_of
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.training.normaliser import static_normaliser
from bakehouse_schemas.application.actions import Continuous, Parts
from bakehouse_schemas.application.application import Agent, Application, Discrete, seconds
from bakehouse_schemas.application.exploration import (
    AgentsOwn,
    EpsilonGreedy,
    Explores,
    Gaussian,
    Softmax,
    Thompson,
)
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.decisions.decide import answer_one, check
from bakehouse_schemas.decisions.recompute import recompute
from bakehouse_schemas.decisions.slot import version_zero
from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.events.events import DecisionRequest
from bakehouse_schemas.execution.propensity import executed_distribution, one_hot, uniform_share
from bakehouse_schemas.ids import uuid7

NOW_MS = 1_700_000_000_000


def of_labels(labels: int, exploration: Explores | None = None, **said: Any) -> Application:
    return Application(
        name="many",
        observation=[Numeric("x", low=0, high=1)],
        actions=Discrete(*[f"a{at}" for at in range(labels)]),
        reward=Reward({"won": 1.0}, window=seconds(2)),
        baseline=lambda _: "a0",
        **({} if exploration is None else {"exploration": exploration}),
        **said,
    )


@given(st.integers(2, 1_000), st.floats(1e-4, 1.0), st.none() | st.floats(1e-4, 1.0))
def test_the_share_that_comes_out_is_epsilon_at_every_moment_whatever_is_eligible(
    labels: int, epsilon: float, start: float | None
) -> None:
    rule = EpsilonGreedy(epsilon, start=start, decay=100).among(labels)
    assert 0 < rule.floor <= 0.01
    for decisions in (0, 1, 37, 99, 100, 10_000):
        now = rule.after(decisions)
        for eligible in {1, 2, labels // 2 + 1, labels}:
            share = uniform_share(now.epsilon, now.floor, eligible)
            assert share == pytest.approx(now.epsilon, rel=1e-12)


@pytest.mark.parametrize(
    ("labels", "floor"), [(2, 0.01), (10, 0.01), (20, 0.005), (100, 0.001), (500, 0.0002)]
)
def test_the_default_floor_is_a_hundredth_or_epsilon_shared_out(labels: int, floor: float) -> None:
    application = of_labels(labels, EpsilonGreedy(0.1))
    assert application.exploration.floor == pytest.approx(floor)
    executed = executed_distribution(
        one_hot(0, labels),
        np.ones(labels, bool),
        epsilon=application.exploration.after(0).epsilon,
        floor=application.exploration.after(0).floor,
    )
    assert executed[0] == pytest.approx(0.9 + 0.1 / labels)
    assert of_labels(labels).exploration.floor == pytest.approx(floor), "the default rule as well"


@pytest.mark.parametrize(
    ("rule", "agent"),
    [(Softmax(0.1), "neural_greedy"), (Thompson(), "lin_ts"), (AgentsOwn(), "ppo")],
)
def test_rules_without_an_epsilon_keep_a_tenth_open_at_most(rule: Explores, agent: str) -> None:
    for labels in (5, 10, 24, 101, 400):
        later = of_labels(labels, rule, agent=Agent(agent)).exploration.after(1)
        share = uniform_share(later.epsilon, later.floor, labels)
        assert share == pytest.approx(min(0.01 * labels, 0.1))


def test_a_version_0_that_explores_less_than_a_tenth_is_not_lifted_to_it() -> None:
    exploration = of_labels(50, Thompson(uniform=0.02), agent=Agent("lin_ts")).exploration
    assert uniform_share(0.02, exploration.after(0).floor, 50) == 0.02


def test_rankings_parts_and_numbers_have_floors_that_fit_what_they_draw_from() -> None:
    common: dict[str, Any] = {
        "observation": [Numeric("x", low=0, high=1)],
        "reward": Reward({"won": 1.0}, window=seconds(2)),
    }
    items = Application(
        name="shelf", actions=Ranking(k=3, item=[Numeric("price", low=0, high=1)], most_items=50),
        baseline=lambda context: [item["id"] for item in context["items"]][:3],
        agent=Agent("rank"), **common,
    )  # fmt: skip
    assert items.exploration.floor == pytest.approx(0.1 / 50)
    modes = {f"m{at}": 0 for at in range(40)}
    parts = Application(
        name="parts", actions=Parts({"mode": Discrete(*modes), "level": Continuous(low=0, high=9)}),
        baseline=lambda _: {"mode": "m0", "level": [1.0]}, agent=Agent("ppo"), **common,
    )  # fmt: skip
    assert parts.exploration.floor == pytest.approx(0.1 / 40)
    number = Application(
        name="number", actions=Continuous(low=0, high=9), baseline=lambda _: [1.0],
        agent=Agent("td3"), exploration=Gaussian(0.1), **common,
    )  # fmt: skip
    assert number.exploration.floor == 0.01


def test_a_floor_that_is_written_stays_as_it_is_written_and_check_warns() -> None:
    application = of_labels(50, EpsilonGreedy(0.1, floor=0.01))
    assert application.exploration.floor == 0.01
    words = exploration_words(application)
    assert words.startswith("50% of the decisions are drawn at random; each of 50 choices is drawn")
    assert "more at random than 10%: floor=0.01 times 50 choices" in words
    assert "write at most 0.002" in words
    with pytest.raises(ApplicationError, match=r"adds up to more than 1: at most 0\.0050"):
        of_labels(200, EpsilonGreedy(0.1, floor=0.01))


def test_check_says_the_share_that_comes_out() -> None:
    rule = EpsilonGreedy(0.1, start=0.5, decay=2_000)
    assert exploration_words(of_labels(100, rule)) == (
        "10% of the decisions are drawn at random (from 50% at first, falling over 2,000 "
        "decisions); each of 100 choices is drawn at least 0.1% of the time"
    )
    softly = exploration_words(of_labels(24, Softmax(0.1)))
    assert softly.endswith("each of 24 choices is drawn at least 0.417% of the time, 10% together "
                           "at random")  # fmt: skip


def test_another_number_of_actions_or_another_epsilon_makes_another_default_floor() -> None:
    """Also where one application is made of another, as tests, `tune` and warm starts do."""
    first = of_labels(100, EpsilonGreedy(0.1))
    fewer = replace(first, actions=Discrete("a0", "a1"))
    assert fewer.exploration.floor == 0.01
    shy = replace(first, exploration=replace(first.exploration, epsilon=0.02))
    assert shy.exploration.floor == pytest.approx(0.0002)
    again = pickle.loads(pickle.dumps(first.exploration))
    assert again == first.exploration and again.among(2).floor == 0.01


def test_the_contract_does_not_know_the_floor() -> None:
    by_floor = {
        of_labels(20, rule).contract
        for rule in (EpsilonGreedy(0.1), EpsilonGreedy(0.1, floor=0.01))
    }
    assert len(by_floor) == 1


def test_importance_weights_are_capped_where_the_floor_says() -> None:
    application = of_labels(100)
    ring = Ring(application)
    normaliser = static_normaliser(application.encoder.bounds())
    assert normaliser is not None
    assert Collector(application, ring, normaliser).evaluation._weight_cap == pytest.approx(1_000.0)


def test_a_decision_that_was_logged_with_another_floor_is_still_decided_again_exactly() -> None:
    """Of a release whose floor was 0.01 whatever the number of actions."""
    before = of_labels(50, EpsilonGreedy(0.1, floor=0.01))
    now = of_labels(50, EpsilonGreedy(0.1))
    first = {"kind": "epsilon_greedy", "epsilon": 0.1, "floor": 0.01}
    rng = np.random.default_rng(0)
    for _ in range(50):
        asked = check(
            before,
            DecisionRequest(subject_id="ada", context={"x": 0.5}),
            decision_id=uuid7(NOW_MS),
            now_ms=NOW_MS,
        )
        made = answer_one(before, version_zero(before), asked, rng.random(), now_ms=NOW_MS)
        record = orjson.loads(orjson.dumps(made.event))
        assert record["exploration"] in (first, {"kind": "none", "epsilon": 0.0, "floor": 0.0})
        found = recompute(now, record, None)
        assert (found.action, found.propensity) == (record["action"], record["propensity"])


def test_what_a_search_found_is_written_without_a_floor_that_nobody_wrote() -> None:
    page = of_labels(50, EpsilonGreedy(0.1))
    found = replace(page, exploration=replace(page.exploration, epsilon=0.2))
    assert lines_of(found, page) == ["exploration=EpsilonGreedy(epsilon=0.2),"]
    page = of_labels(50, EpsilonGreedy(0.1, floor=0.01))
    found = replace(page, exploration=replace(page.exploration, epsilon=0.2))
    assert lines_of(found, page) == ["exploration=EpsilonGreedy(epsilon=0.2, floor=0.01),"]
