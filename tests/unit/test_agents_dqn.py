"""What DQN and its kin have of their own: looking ahead, over eligible actions."""

from __future__ import annotations

import numpy as np
import pytest

from bakehouse_learner.training.agent import TrainableAgent
from bakehouse_learner.training.batch import Batch
from bakehouse_schemas.application.application import Episodic
from bakehouse_schemas.application.observation import Categorical
from tests.small_worlds import BATCH, STEPS, application_for, build, policy_of

PLACES = Categorical("place", values=["a", "b", "c", "d"])
GAMMA = 0.9
TAKE, WAIT = 0, 1
MANY = 1_000_000  # decisions resident: the ridge is to leave exact worlds exact
COLUMNS = [name for name in Batch._fields if name not in ("resident", "propensity", "items")]


def _agent(name: str = "dqn", **parameters: int) -> TrainableAgent:
    application = application_for(
        name, feature=PLACES, actions=2, problem=Episodic(discount=GAMMA), **parameters
    )
    return build(application)


def _rows(steps: int, rows: int = BATCH) -> Batch:
    """Rows of nothing: place a, action 0, reward 0, terminal."""
    return Batch(
        observation=np.zeros((steps, rows, 4), np.float32),
        eligible=np.ones((steps, rows, 2), bool),
        action=np.zeros((steps, rows), np.int32),
        reward=np.zeros((steps, rows), np.float32),
        discount=np.zeros((steps, rows), np.float32),
        next_observation=np.zeros((steps, rows, 4), np.float32),
        next_eligible=np.ones((steps, rows, 2), bool),
        weight=np.ones((steps, rows), np.float32),
        resident=MANY,
    )


def _chain(rng: np.random.Generator, steps: int) -> Batch:
    """Taking ends the episode with 0.3; waiting leads on, and past the last place earns 1."""
    batch = _rows(steps)
    place = rng.integers(0, 4, batch.action.shape)
    batch.observation[...] = np.eye(4, dtype=np.float32)[place]
    batch.action[...] = rng.integers(0, 2, place.shape)
    waited, last = batch.action == WAIT, place == 3
    batch.reward[...] = np.where(waited, np.where(last, 1.0, 0.0), 0.3)
    on = waited & ~last
    batch.discount[on] = GAMMA
    batch.next_observation[on] = np.eye(4, dtype=np.float32)[place[on] + 1]
    return batch


def _drawn_from(decisions: Batch, rng: np.random.Generator) -> Batch:
    """Minibatches drawn with replacement from these decisions."""
    steps, rows = decisions.action.shape
    chosen = rng.integers(0, steps, (STEPS, BATCH)), rng.integers(0, rows, (STEPS, BATCH))
    columns = {
        name: column[chosen] for name, column in decisions._asdict().items() if name in COLUMNS
    }
    return Batch(**columns, resident=MANY)


def test_dqn_waits_in_a_chain_where_the_greedy_answer_is_to_take() -> None:
    agent, rng = _agent(), np.random.default_rng(0)
    decisions = _chain(rng, 10)  # 320 of them are enough
    for _ in range(60):
        losses = agent.train(_drawn_from(decisions, rng))
    scores = policy_of(agent, 2).scores(np.eye(4, dtype=np.float32))
    expected = [[0.3, GAMMA**3], [0.3, GAMMA**2], [0.3, GAMMA], [0.3, 1.0]]
    np.testing.assert_allclose(scores, expected, atol=0.05)
    assert losses["loss"] < 0.01


@pytest.mark.parametrize("name", ["c51", "rainbow", "dqn_cql"])
def test_its_kin_wait_as_well(name: str) -> None:
    agent, rng = _agent(name), np.random.default_rng(0)
    decisions = _chain(rng, 10)
    for _ in range(80):
        agent.train(_drawn_from(decisions, rng))
    scores = policy_of(agent, 2).scores(np.eye(4, dtype=np.float32))
    assert (scores[:, WAIT] > scores[:, TAKE] + 0.1).all(), scores
    if name != "dqn_cql":  # whose values are lower bounds
        expected = [[0.3, GAMMA**3], [0.3, GAMMA**2], [0.3, GAMMA], [0.3, 1.0]]
        np.testing.assert_allclose(scores, expected, atol=0.1)


def test_the_next_maximum_is_over_the_next_eligible_actions() -> None:
    agent, rng = _agent(), np.random.default_rng(1)
    a, b, c = np.eye(4, dtype=np.float32)[:3]
    for _ in range(60):
        batch = _rows(STEPS)
        kind = rng.integers(0, 4, batch.action.shape)
        # at c, action 0 earns 0.2 and action 1 earns 1; both a and b lead to c for nothing, but
        # who comes from b may only choose action 0 there
        batch.observation[...] = np.stack([c, c, a, b])[kind]
        batch.action[...] = np.array([0, 1, 0, 0])[kind]
        batch.reward[...] = np.array([0.2, 1.0, 0.0, 0.0])[kind]
        batch.discount[...] = np.array([0.0, 0.0, GAMMA, GAMMA])[kind]
        batch.next_observation[...] = np.stack([0 * c, 0 * c, c, c])[kind]
        batch.next_eligible[..., 1] = np.array([True, True, True, False])[kind]
        agent.train(batch)
    scores = policy_of(agent, 2).scores(np.stack([a, b]))
    np.testing.assert_allclose(scores[:, 0], [GAMMA * 1.0, GAMMA * 0.2], atol=0.05)


def test_the_discount_of_the_row_is_what_bootstraps() -> None:
    """Three steps at once: the row brings their sum and γ³."""
    agent, rng = _agent(), np.random.default_rng(2)
    a, d = np.eye(4, dtype=np.float32)[[0, 3]]
    for _ in range(60):
        batch = _rows(STEPS)
        far = rng.random(batch.action.shape) < 0.5
        batch.observation[...] = np.where(far[..., None], a, d)
        batch.reward[...] = np.where(far, 0.5, 1.0)
        batch.discount[far] = GAMMA**3
        batch.next_observation[far] = d
        batch.next_eligible[..., 1] = False
        agent.train(batch)
    scores = policy_of(agent, 2).scores(np.stack([a, d]))
    np.testing.assert_allclose(scores[:, 0], [0.5 + GAMMA**3, 1.0], atol=0.05)


def test_the_target_is_copied_after_every_period_of_steps_and_not_between() -> None:
    agent, rng = _agent(target_update_period=5), np.random.default_rng(3)

    def network_and_target() -> tuple[np.ndarray, np.ndarray]:
        state = agent.state()
        return state["network/0"], state["target/0"]

    agent.train(_chain(rng, 1))  # the first batch also sets the reward's unit
    _, beginning = network_and_target()
    agent.train(_chain(rng, 3))
    network, target = network_and_target()
    np.testing.assert_array_equal(target, beginning)
    assert not np.array_equal(network, target)
    agent.train(_chain(rng, 1))
    network, target = network_and_target()
    np.testing.assert_array_equal(network, target)
    agent.train(_chain(rng, 2))
    _, after = network_and_target()
    np.testing.assert_array_equal(after, target)


@pytest.mark.parametrize("unit", [1e-3, 1e4])
def test_values_keep_the_games_unit_of_reward(unit: float) -> None:
    agent, rng = _agent(), np.random.default_rng(4)
    for _ in range(60):
        batch = _chain(rng, STEPS)
        agent.train(batch._replace(reward=batch.reward * np.float32(unit)))
    scores = policy_of(agent, 2).scores(np.eye(4, dtype=np.float32)) / unit
    np.testing.assert_allclose(scores[:, WAIT], [GAMMA**3, GAMMA**2, GAMMA, 1.0], atol=0.06)
