"""`rank` finds out which items please whom, and which places are seen, from what lists earned."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bakehouse_learner.agents.common.saved_model import save_model
from bakehouse_learner.agents.rank import RankAgent
from bakehouse_learner.gate.policy_version import policy_of
from bakehouse_learner.offline.simulation.simulation import simulate
from bakehouse_learner.training.batch import Batch
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.application.application import Agent, Application, Training, seconds
from bakehouse_schemas.application.observation import Numeric, Vector
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.policy.policy import Policy
from tests.small_worlds import build
from tests.worlds import exam_of

K, MOST = 3, 6
SEEN = np.array([0.6, 0.3, 0.1])
APPLICATION = Application(
    name="shelf",
    observation=[Vector("taste", length=2, low=-1, high=1)],
    actions=Ranking(
        k=K,
        item=[Numeric("bright", low=-1, high=1), Numeric("heavy", low=-1, high=1)],
        most_items=MOST,
    ),
    reward=Reward({"bought": 1.0}, window=seconds(10)),
    baseline=lambda context: [item["id"] for item in context["items"][:K]],
    agent=Agent("rank", hidden=[32], learning_rate=0.005),
    training=Training(batch=64, steps=20),
)


@cache
def _built() -> tuple[RankAgent, dict[str, np.ndarray]]:
    agent = build(APPLICATION)
    assert isinstance(agent, RankAgent)
    return agent, {name: array.copy() for name, array in agent.state().items()}


def untrained() -> RankAgent:
    """Compiled once, and put back to its beginning."""
    agent, beginning = _built()
    agent.restore(beginning)
    return agent


def worth(observation: np.ndarray, items: np.ndarray) -> np.ndarray:
    """What a list of nothing but this item would earn: `[…, 2]`, `[…, A, 2]` → `[…, A]`."""
    return np.asarray(1.0 + np.tanh(2 * (items @ observation[..., None])[..., 0]))


def batch(rng: np.random.Generator, *, unit: float = 1.0, steps: int = 20, size: int = 64) -> Batch:
    """Lists shown at random, some of them with an empty place, and what they earned."""
    lead = (steps, size)
    observation = rng.uniform(-1, 1, (*lead, 2)).astype(np.float32)
    items = rng.uniform(-1, 1, (*lead, MOST, 2)).astype(np.float32)
    places = np.argsort(rng.random((*lead, MOST)), axis=-1)[..., :K]
    places[rng.random(lead) < 0.1, -1] = -1
    earned = np.take_along_axis(worth(observation, items), np.maximum(places, 0), axis=-1)
    reward = ((earned * (places >= 0)) @ SEEN + rng.normal(0, 0.3, lead)) * unit
    return Batch(
        observation=observation,
        eligible=np.ones((*lead, MOST), bool),
        action=places.astype(np.float32),
        reward=reward.astype(np.float32),
        discount=np.zeros(lead, np.float32),
        next_observation=np.zeros_like(observation),
        next_eligible=np.ones((*lead, MOST), bool),
        weight=np.ones(lead, np.float32),
        propensity=np.full(lead, 0.1, np.float32),
        items=items,
    )


def share(policy: Policy) -> float:
    """Of the way from a random order to the best."""
    rng = np.random.default_rng(9)
    observation = rng.uniform(-1, 1, (1_000, 2)).astype(np.float32)
    items = rng.uniform(-1, 1, (1_000, MOST, 2)).astype(np.float32)
    true = worth(observation, items)
    order = np.argsort(-policy.scores(observation, items), axis=1)[:, :K]
    got = (np.take_along_axis(true, order, axis=1) @ SEEN).mean()
    best = (-np.sort(-true, axis=1)[:, :K] @ SEEN).mean()
    return float((got - true.mean()) / (best - true.mean()))


@pytest.mark.parametrize("unit", [1.0, 5_000.0])
def test_it_learns_the_items_and_the_places_whatever_the_unit_of_reward(unit: float) -> None:
    agent, rng = untrained(), np.random.default_rng(0)
    for _ in range(25):
        losses = agent.train(batch(rng, unit=unit))
    assert np.isfinite(list(losses.values())).all()
    assert share(policy_of(agent.export(), APPLICATION.shape)) >= 0.9
    weights = np.exp(agent.state()[f"network/{len(agent.variables) - 2}"])
    np.testing.assert_allclose(weights / weights.sum(), SEEN, atol=0.12)


def test_before_it_has_learned_it_prefers_no_item() -> None:
    sample = batch(np.random.default_rng(0), steps=1)
    scores = untrained().scores(sample.observation[0], sample.items[0])  # type: ignore[index]
    assert scores.shape == (64, MOST)
    assert np.ptp(scores, axis=1).max() < 1e-6


def test_the_exported_policy_scores_as_tensorflow_does_also_beyond_the_range() -> None:
    agent, rng = untrained(), np.random.default_rng(1)
    for _ in range(5):
        agent.train(batch(rng))
    observation = rng.uniform(-20, 20, (50, 2)).astype(np.float32)
    items = rng.uniform(-20, 20, (50, MOST, 2)).astype(np.float32)
    found = policy_of(agent.export(), APPLICATION.shape).scores(observation, items)
    np.testing.assert_allclose(found, agent.scores(observation, items), rtol=1e-5, atol=1e-5)
    assert np.ptp(found, axis=1).min() > 1e-4


def test_the_same_batches_make_the_same_agent_also_after_stopping_in_between() -> None:
    ends = []
    for stops in (False, True):
        agent, rng = untrained(), np.random.default_rng(2)
        for at in range(6):
            if stops and at == 3:
                saved = {name: array.copy() for name, array in agent.state().items()}
                agent.train(batch(np.random.default_rng(7)))  # goes astray
                agent.restore(saved)
            agent.train(batch(rng))
        ends.append(agent.state())
    for name, array in ends[0].items():
        np.testing.assert_array_equal(array, ends[1][name], err_msg=name)


@pytest.mark.parametrize("reward", [1e6, 0.0, 7.0])
def test_hostile_rewards_leave_losses_and_scores_finite(reward: float) -> None:
    agent, rng = untrained(), np.random.default_rng(3)
    for _ in range(5):
        sample = batch(rng)
        told = np.full(sample.reward.shape, reward, np.float32)
        if reward == 1e6:
            told *= rng.standard_normal(told.shape, np.float32)
        losses = agent.train(sample._replace(reward=told))
        assert np.isfinite(list(losses.values())).all()
    policy = policy_of(agent.export(), APPLICATION.shape)
    assert sample.items is not None
    assert np.isfinite(policy.scores(sample.observation[0], sample.items[0])).all()
    own = policy.base_policy(sample.observation[0], sample.eligible[0], sample.items[0])
    np.testing.assert_allclose(own.probabilities.sum(axis=1), 1.0)


def test_a_saved_model_answers_with_the_items_it_is_given(tmp_path: Path) -> None:
    agent = untrained()
    sample = batch(np.random.default_rng(4), steps=1)
    assert sample.items is not None
    agent.train(batch(np.random.default_rng(5)))
    save_model(tmp_path / "model", agent, APPLICATION)
    answer = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    eligible = np.random.default_rng(6).random((64, MOST)) < 0.7
    found = answer(
        observation=tf.constant(sample.observation[0]),
        eligible=tf.constant(eligible),
        items=tf.constant(sample.items[0]),
    )["scores"].numpy()
    scores = agent.scores(sample.observation[0], sample.items[0])
    np.testing.assert_allclose(found[eligible], scores[eligible], rtol=1e-5, atol=1e-6)
    assert np.isneginf(found[~eligible]).all()


@pytest.mark.long
def test_it_learns_the_world_of_shelves_within_4000_decisions() -> None:
    from bakehouse_learner.agents import build_agent

    exam = exam_of("rank")
    assert exam.module == "shelves"
    for seed in range(3):
        result = simulate(
            exam.application_for("rank"),
            exam.world,
            build_agent,
            decisions=4_000,
            rate_per_s=exam.rate_per_s,
            seed=seed,
        )
        assert result.share is not None
        assert result.share >= 0.85
