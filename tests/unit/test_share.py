"""Hand-worked values of a tiny bandit and a tiny episodic world."""

from collections.abc import Hashable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from bakehouse_schemas.application.application import Agent, Application, Bandit, Discrete, Episodic
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.execution.propensity import executed_distribution, one_hot
from bakehouse_schemas.worlds.share import (
    Logged,
    bandit_values,
    episodic_values,
    logged_decision,
    share,
    world_values,
)
from bakehouse_schemas.worlds.world import BanditWorld, EpisodicWorld, Happening, Transition

ALL = np.ones(2, dtype=bool)


def make_application(problem: Bandit | Episodic, agent: str) -> Application:
    return Application(
        name="tiny",
        observation=[Numeric("x", low=0, high=3)],
        actions=Discrete("left", "right"),
        reward=Reward({"coin": 1.0}, window=timedelta(seconds=1)),
        baseline=lambda context: "left",
        problem=problem,
        agent=Agent(agent),
    )


class TwoArms(BanditWorld):
    """Left is worth 1 at x = 0 and nothing at x = 1; right is worth 0.5 everywhere."""

    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"x": float(rng.integers(2))}

    def happenings(self, context: Any, action: str, rng: np.random.Generator) -> list[Happening]:
        return []

    def expected_reward(self, context: Any, action: str) -> float:
        return 0.5 if action == "right" else 1.0 - context["x"]


class Detour(EpisodicWorld):
    """Left ends at once with 1; right earns nothing now, and 4 in the next state, either way."""

    states = ("fork", "top")

    def start(self) -> dict[Hashable, float]:
        return {"fork": 1.0}

    def context(self, state: Hashable, rng: np.random.Generator) -> dict[str, Any]:
        return {"x": 0.0 if state == "fork" else 1.0}

    def state_of(self, context: Any) -> Hashable:
        return "fork" if context["x"] == 0.0 else "top"

    def transitions(self, state: Hashable, action: str) -> list[Transition]:
        if state == "top":
            return [Transition(1.0, 4.0, None)]
        if action == "left":
            return [Transition(1.0, 1.0, None)]
        return [Transition(1.0, 0.0, "top")]

    def happenings(self, *args: Any) -> list[Happening]:
        return []


def explored(epsilon: float, floor: float = 0.0) -> Exploration:
    return Exploration(kind="epsilon_greedy", epsilon=epsilon, floor=floor)


def decisions(xs: list[float], probabilities: list[float], epsilon: float = 0.2) -> list[Logged]:
    return [Logged({"x": x}, np.array(probabilities), ALL, explored(epsilon)) for x in xs]


BANDIT = make_application(Bandit(), "neural_greedy")
EPISODIC = make_application(Episodic(discount=0.5), "dqn")


def test_bandit_values_are_the_expectations_worked_by_hand() -> None:
    values = bandit_values(TwoArms(), BANDIT, decisions([0.0, 1.0], [0.25, 0.75]))
    # uniform: (0.75 + 0.25) / 2; left: (1 + 0) / 2; policy: (0.625 + 0.375) / 2
    assert values.uniform == pytest.approx(0.5)
    assert values.baseline == pytest.approx(0.5)
    assert values.policy == pytest.approx(0.5)
    # best with ε = 0.2: 0.9·1 + 0.1·0.5 = 0.95 at x = 0, and 0.9·0.5 + 0.1·0 = 0.45 at x = 1
    assert values.best == pytest.approx(0.7)
    assert share(values) == pytest.approx(0.0)


def test_the_best_policy_with_its_exploration_has_a_share_of_one() -> None:
    made = decisions([0.0], [0.9, 0.1]) + decisions([1.0], [0.1, 0.9])
    assert share(bandit_values(TwoArms(), BANDIT, made)) == pytest.approx(1.0)


def test_the_floor_raises_the_exploration_of_the_best_too() -> None:
    executed = executed_distribution(one_hot(0, 2), ALL, epsilon=0.0, floor=0.25)
    made = [Logged({"x": 0.0}, executed, ALL, explored(0.0, 0.25))]
    values = bandit_values(TwoArms(), BANDIT, made)
    assert values.best == pytest.approx(0.75 * 1.0 + 0.25 * 0.5)
    assert share(values) == pytest.approx(1.0)


def test_the_best_answers_only_what_was_eligible() -> None:
    only_right = np.array([False, True])
    made = [Logged({"x": 0.0}, np.array([0.0, 1.0]), only_right, explored(0.2))]
    values = bandit_values(TwoArms(), BANDIT, made)
    assert values.uniform == values.best == values.baseline == pytest.approx(0.5)
    assert share(values) is None


def test_episodic_values_are_the_returns_worked_by_hand() -> None:
    made = decisions([0.0, 1.0], [0.5, 0.5])
    values = episodic_values(Detour(), EPISODIC, made)
    # discount 0.5: right is worth 0.5 · 4 = 2, left 1
    assert values.uniform == pytest.approx(1.5)
    assert values.policy == pytest.approx(1.5)
    assert values.baseline == pytest.approx(1.0)
    assert values.best == pytest.approx(0.9 * 2 + 0.1 * 1)
    assert values.myopic == pytest.approx(0.9 * 1 + 0.1 * 2)


def test_an_episodic_policy_is_the_mean_of_what_was_executed_in_each_state() -> None:
    made = decisions([0.0], [0.9, 0.1]) + decisions([0.0], [0.1, 0.9])
    assert episodic_values(Detour(), EPISODIC, made).policy == pytest.approx(1.5)


def test_players_who_vanish_lower_what_looking_ahead_is_worth() -> None:
    world = Detour()
    world.vanishing = 0.25
    values = episodic_values(world, EPISODIC, decisions([0.0], [0.0, 1.0]))
    assert values.policy == pytest.approx(0.5 * 0.75 * 4)


def test_no_decisions_have_no_value() -> None:
    with pytest.raises(BakehouseError, match="no decisions"):
        world_values(TwoArms(), BANDIT, [])


def test_a_row_of_the_table_is_read_with_its_mask_and_exploration() -> None:
    row = {
        "context": '{"x":1.0}',
        "action": '"right"',
        "action_probabilities": '{"right":1.0}',
        "exploration": '{"epsilon":0.3,"floor":0.01,"kind":"epsilon_greedy"}',
        "eligible_actions": '["right"]',
    }
    made = logged_decision(BANDIT, row)
    assert made.context == {"x": 1.0}
    assert made.probabilities.tolist() == [0.0, 1.0]
    assert made.eligible.tolist() == [False, True]
    assert (made.exploration.epsilon, made.exploration.floor) == (0.3, 0.01)


def test_a_row_without_probabilities_counts_as_its_action() -> None:
    made = logged_decision(BANDIT, {"context": '{"x":1.0}', "action": '"left"'})
    assert made.probabilities.tolist() == [1.0, 0.0]
    assert made.eligible.all()
