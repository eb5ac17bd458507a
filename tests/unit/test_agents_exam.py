"""The exam that every agent sits: same questions, same pass mark."""

from __future__ import annotations

import numpy as np
import pytest

from bakehouse_learner.training.agent import TrainableAgent
from bakehouse_learner.training.batch import Rows
from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.application.shape import Shape
from tests.small_worlds import (
    application_for,
    build,
    learn,
    lessons,
    minibatches,
    policy_of,
    share_of,
    untrained,
)

# Every agent sits once for each kind of actions that it decides.
SEATS = [
    (name, kind)
    for name in sorted(AGENTS)
    for kind in ("discrete", "continuous")
    if kind in AGENTS[name].actions
]
every_agent = pytest.mark.parametrize(
    ("name", "kind"), SEATS, ids=[f"{name}-{kind}" for name, kind in SEATS]
)
HOSTILE = {
    "huge": lambda rng, n: 1e6 * rng.standard_normal(n),
    "one in a hundred is a million": lambda rng, n: 1e6 * (rng.random(n) < 0.01),
    "constant": lambda rng, n: np.full(n, 7.0),
    "all zero": lambda rng, n: np.zeros(n),
    "tiny": lambda rng, n: 1e-30 * rng.standard_normal(n),
}


def sitting(name: str, kind: str, twin: int = 0) -> TrainableAgent:
    return untrained(name, twin, kind=kind)


def space(kind: str) -> Shape:
    return application_for("bc", kind=kind).shape


@every_agent
def test_an_agent_answers_every_row_with_the_numbers_that_its_policy_reads(
    name: str, kind: str
) -> None:
    agent, observation = sitting(name, kind), np.zeros((5, 3), np.float32)
    scores = agent.scores(observation)
    assert scores.shape == policy_of(agent, space(kind)).scores(observation).shape
    assert len(scores) == 5
    assert scores.dtype == np.float32


@every_agent
def test_before_it_has_learned_an_agent_prefers_nothing(name: str, kind: str) -> None:
    observation = np.random.default_rng(0).random((20, 3), np.float32)
    scores = sitting(name, kind).scores(observation)
    alike = scores if kind == "discrete" else scores.T  # of labels; of contexts
    assert np.ptp(alike, axis=1).max() < 1e-6


@every_agent
def test_an_agent_learns_a_small_world_within_1500_decisions(name: str, kind: str) -> None:
    agent, rng = sitting(name, kind), np.random.default_rng(1)
    rows = lessons(name, rng, 1_500, kind=kind)
    for read in range(50, 1_501, 50):  # a training for each fifty decisions read
        for _ in range(1 if kind == "discrete" else 3):
            learn(agent, Rows(*(column[:read] for column in rows)), rng)
    assert share_of(agent, kind) >= 0.85


@every_agent
def test_an_agent_learns_as_well_whatever_the_unit_of_reward(name: str, kind: str) -> None:
    agent, rng = sitting(name, kind), np.random.default_rng(1)
    rows = lessons(name, rng, 1_500, kind=kind)
    rows = rows._replace(reward=rows.reward * np.float32(5_000.0) - np.float32(20_000.0))
    for _ in range(30 if kind == "discrete" else 90):
        learn(agent, rows, rng)
    # optimism is in reward units by definition, so lin_ucb needs no help at this size either
    assert share_of(agent, kind) >= 0.85


@every_agent
def test_two_agents_of_one_seed_learn_the_same_to_the_last_bit(name: str, kind: str) -> None:
    states = []
    for twin in range(2):
        agent, rng = sitting(name, kind, twin), np.random.default_rng(2)
        rows = lessons(name, rng, 200, kind=kind)
        for _ in range(4):
            learn(agent, rows, rng)
        states.append(agent.state())
    for key, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][key], err_msg=key)


@every_agent
def test_stopping_and_resuming_changes_nothing(name: str, kind: str) -> None:
    agent, rng = sitting(name, kind), np.random.default_rng(3)
    rows, later = lessons(name, rng, 200, kind=kind), lessons(name, rng, 300, kind=kind)
    for _ in range(7):
        learn(agent, rows, rng)
    saved = {key: array.copy() for key, array in agent.state().items()}
    ends = []
    for resumed in (agent, sitting(name, kind, twin=1)):
        resumed.restore(saved)
        rng = np.random.default_rng(4)
        for _ in range(7):
            learn(resumed, later, rng)
        ends.append(resumed.state())
    for key, array in ends[0].items():
        np.testing.assert_array_equal(array, ends[1][key], err_msg=key)
    assert any(not np.array_equal(saved[key], array) for key, array in ends[0].items())


@every_agent
def test_a_state_of_other_shapes_is_refused_and_changes_nothing(name: str, kind: str) -> None:
    agent, rng = sitting(name, kind), np.random.default_rng(3)
    learn(agent, lessons(name, rng, 100, kind=kind), rng)
    before = {key: array.copy() for key, array in agent.state().items()}
    foreign = dict(build(application_for(name, kind=kind, actions=4)).state())
    with pytest.raises(ValueError, match="the agent is as it was"):
        agent.restore(foreign)
    for key, array in agent.state().items():
        np.testing.assert_array_equal(array, before[key], err_msg=key)


@every_agent
def test_the_exported_policy_scores_as_tensorflow_does(name: str, kind: str) -> None:
    agent, rng = sitting(name, kind), np.random.default_rng(5)
    for _ in range(20):
        learn(agent, lessons(name, rng, 400, kind=kind), rng)
    observation = rng.uniform(-4, 4, (200, 3)).astype(np.float32)  # also beyond the range
    found = policy_of(agent, space(kind)).scores(observation)
    np.testing.assert_allclose(found, agent.scores(observation), rtol=1e-5, atol=1e-5)
    assert np.ptp(found, axis=0).max() > 0.1


@every_agent
@pytest.mark.parametrize("rewards", sorted(HOSTILE))
def test_hostile_rewards_leave_losses_and_scores_finite(name: str, kind: str, rewards: str) -> None:
    agent, rng = sitting(name, kind), np.random.default_rng(6)
    rows = lessons(name, rng, 400, kind=kind)
    rows = rows._replace(reward=HOSTILE[rewards](rng, 400).astype(np.float32))
    for _ in range(10):
        losses = learn(agent, rows, rng)
        assert all(np.isfinite(loss) for loss in losses.values())
    observation = rng.uniform(-1, 1, (50, 3)).astype(np.float32)
    policy = policy_of(agent, space(kind))
    scores = policy.scores(observation)
    assert np.isfinite(scores).all()
    # where the ring is read the prior is a mean of 0; dqn_cql's scores are lower bounds
    means = policy.scores_are_rewards and not agent.learns_from_ring and name != "dqn_cql"
    if rewards == "constant" and means:
        np.testing.assert_allclose(scores, 7.0, rtol=1e-3)


@every_agent
def test_an_agent_says_which_way_it_learns(name: str, kind: str) -> None:
    agent, rows = sitting(name, kind), lessons(name, np.random.default_rng(0), 10, kind=kind)
    assert agent.learns_from_minibatches or agent.learns_from_ring
    if not agent.learns_from_minibatches:
        with pytest.raises(TypeError, match="nothing was learned"):
            agent.train(minibatches(rows, np.zeros((1, 4), int)))
    if not agent.learns_from_ring:
        with pytest.raises(TypeError, match="nothing was learned"):
            agent.fit(rows)
