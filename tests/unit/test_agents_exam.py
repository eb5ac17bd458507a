"""The exam that every agent sits: same questions, same pass mark."""

from __future__ import annotations

import numpy as np
import pytest

from learner.batch import Rows
from tests.small_worlds import (
    DISCRETE,
    application_for,
    build,
    learn,
    lessons,
    minibatches,
    policy_of,
    share_of_tastes,
    untrained,
)

every_agent = pytest.mark.parametrize("name", DISCRETE)
HOSTILE = {
    "huge": lambda rng, n: 1e6 * rng.standard_normal(n),
    "one in a hundred is a million": lambda rng, n: 1e6 * (rng.random(n) < 0.01),
    "constant": lambda rng, n: np.full(n, 7.0),
    "all zero": lambda rng, n: np.zeros(n),
    "tiny": lambda rng, n: 1e-30 * rng.standard_normal(n),
}


@every_agent
def test_an_agent_scores_every_action_of_every_row(name: str) -> None:
    agent = untrained(name)
    scores = agent.scores(np.zeros((5, 3), np.float32))
    assert scores.shape == (5, 3)
    assert scores.dtype == np.float32


@every_agent
def test_before_it_has_learned_an_agent_prefers_no_action(name: str) -> None:
    scores = untrained(name).scores(np.random.default_rng(0).random((20, 3), np.float32))
    assert np.ptp(scores, axis=1).max() < 1e-6


@every_agent
def test_an_agent_learns_a_small_world_within_1500_decisions(name: str) -> None:
    agent, rng = untrained(name), np.random.default_rng(1)
    rows = lessons(name, rng, 1_500)
    for read in range(50, 1_501, 50):  # a training for each fifty decisions read
        learn(agent, Rows(*(column[:read] for column in rows)), rng)
    assert share_of_tastes(policy_of(agent, 3)) >= 0.85


@every_agent
def test_an_agent_learns_as_well_whatever_the_unit_of_reward(name: str) -> None:
    agent, rng = untrained(name), np.random.default_rng(1)
    rows = lessons(name, rng, 1_500)
    rows = rows._replace(reward=rows.reward * np.float32(5_000.0) - np.float32(20_000.0))
    for _ in range(30):
        learn(agent, rows, rng)
    # optimism is in reward units by definition, so lin_ucb needs no help at this size either
    assert share_of_tastes(policy_of(agent, 3)) >= 0.85


@every_agent
def test_two_agents_of_one_seed_learn_the_same_to_the_last_bit(name: str) -> None:
    states = []
    for twin in range(2):
        agent, rng = untrained(name, twin), np.random.default_rng(2)
        rows = lessons(name, rng, 200)
        for _ in range(4):
            learn(agent, rows, rng)
        states.append(agent.state())
    for key, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][key], err_msg=key)


@every_agent
def test_stopping_and_resuming_changes_nothing(name: str) -> None:
    agent, rng = untrained(name), np.random.default_rng(3)
    rows, later = lessons(name, rng, 200), lessons(name, rng, 300)
    for _ in range(7):
        learn(agent, rows, rng)
    saved = {key: array.copy() for key, array in agent.state().items()}
    ends = []
    for resumed in (agent, untrained(name, twin=1)):
        resumed.restore(saved)
        rng = np.random.default_rng(4)
        for _ in range(7):
            learn(resumed, later, rng)
        ends.append(resumed.state())
    for key, array in ends[0].items():
        np.testing.assert_array_equal(array, ends[1][key], err_msg=key)
    assert any(not np.array_equal(saved[key], array) for key, array in ends[0].items())


@every_agent
def test_a_state_of_other_shapes_is_refused_and_changes_nothing(name: str) -> None:
    agent, rng = untrained(name), np.random.default_rng(3)
    learn(agent, lessons(name, rng, 100), rng)
    before = {key: array.copy() for key, array in agent.state().items()}
    foreign = dict(build(application_for(name, actions=4)).state())
    with pytest.raises(ValueError, match="the agent is as it was"):
        agent.restore(foreign)
    for key, array in agent.state().items():
        np.testing.assert_array_equal(array, before[key], err_msg=key)


@every_agent
def test_the_exported_policy_scores_as_tensorflow_does(name: str) -> None:
    agent, rng = untrained(name), np.random.default_rng(5)
    for _ in range(20):
        learn(agent, lessons(name, rng, 400), rng)
    observation = rng.uniform(-4, 4, (200, 3)).astype(np.float32)  # also beyond the range
    found = policy_of(agent, 3).scores(observation)
    np.testing.assert_allclose(found, agent.scores(observation), rtol=1e-5, atol=1e-5)
    assert np.ptp(found, axis=0).min() > 0.1


@every_agent
@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_hostile_rewards_leave_losses_and_scores_finite(name: str, kind: str) -> None:
    agent, rng = untrained(name), np.random.default_rng(6)
    rows = lessons(name, rng, 400)
    rows = rows._replace(reward=HOSTILE[kind](rng, 400).astype(np.float32))
    for _ in range(10):
        losses = learn(agent, rows, rng)
        assert all(np.isfinite(loss) for loss in losses.values())
    observation = rng.uniform(-1, 1, (50, 3)).astype(np.float32)
    scores = policy_of(agent, 3).scores(observation)
    assert np.isfinite(scores).all()
    # where the ring is read the prior is a mean of 0; the others' scores are no means
    no_means = ("bc", "dqn_cql", "ppo", "reinforce")
    if kind == "constant" and not agent.learns_from_ring and name not in no_means:
        np.testing.assert_allclose(scores, 7.0, rtol=1e-3)


@every_agent
def test_an_agent_says_which_way_it_learns(name: str) -> None:
    agent, rows = untrained(name), lessons(name, np.random.default_rng(0), 10)
    assert agent.learns_from_minibatches or agent.learns_from_ring
    if not agent.learns_from_minibatches:
        with pytest.raises(TypeError, match="nothing was learned"):
            agent.train(minibatches(rows, np.zeros((1, 4), int)))
    if not agent.learns_from_ring:
        with pytest.raises(TypeError, match="nothing was learned"):
            agent.fit(rows)
