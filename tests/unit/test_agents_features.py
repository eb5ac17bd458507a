"""What describes an action carries what was learned of one over to others like it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bakehouse_learner.gate.policy_version import policy_of
from bakehouse_learner.training.batch import Batch, Rows
from bakehouse_schemas.application.agents import AGENTS, check_agent
from bakehouse_schemas.application.application import (
    Agent,
    Application,
    Bandit,
    Discrete,
    Episodic,
    Training,
    seconds,
)
from bakehouse_schemas.application.observation import Vector
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.policy.policy import Policy
from tests.small_worlds import BATCH, STEPS, build, minibatches

MANY = 40
DESCRIBED = np.random.default_rng(5).uniform(-1, 1, (MANY, 3)).round(3)
READING = sorted(name for name, kind in AGENTS.items() if kind.reads_features)


def application(
    agent: str,
    *,
    described: bool = True,
    problem: Bandit | Episodic = Bandit(),  # noqa: B008
) -> Application:
    labels = [f"offer-{at}" for at in range(MANY)]
    features = dict(zip(labels, DESCRIBED.tolist(), strict=True)) if described else None
    return Application(
        name="offers",
        observation=[Vector("taste", length=3, low=-1, high=1)],
        actions=Discrete(*labels, features=features),
        problem=problem,
        reward=Reward({"taken": 1.0}, window=seconds(10)),
        baseline=lambda context: "offer-0",
        agent=Agent(agent, hidden=[32]),
        training=Training(batch=BATCH, steps=STEPS),
    )


def chances(observation: np.ndarray) -> np.ndarray:
    """Of each offer being taken: `[n, 3]` → `[n, A]`."""
    return np.asarray(0.5 + 0.45 * np.tanh(2 * observation @ DESCRIBED.T))


def taken(rng: np.random.Generator, n: int) -> Rows:
    observation = rng.uniform(-1, 1, (n, 3)).astype(np.float32)
    action = rng.integers(0, MANY, n).astype(np.int32)
    reward = rng.random(n) < chances(observation)[np.arange(n), action]
    return Rows(observation, action, reward.astype(np.float32))


def batch_of(rows: Rows, rng: np.random.Generator) -> Batch:
    chosen = rng.integers(0, len(rows.action), (STEPS, BATCH))
    return minibatches(rows, chosen, actions=MANY)._replace(resident=len(rows.action))


def share(policy: Policy) -> float:
    observation = np.random.default_rng(9).uniform(-1, 1, (1_000, 3)).astype(np.float32)
    true = chances(observation)
    got = true[np.arange(1_000), policy.scores(observation).argmax(axis=1)].mean()
    return float((got - true.mean()) / (true.max(axis=1).mean() - true.mean()))


def learned(name: str, *, described: bool) -> Policy:
    """After 250 decisions: about six of each offer."""
    chosen, rng = application(name, described=described), np.random.default_rng(1)
    agent, rows = build(chosen), taken(rng, 250)
    for _ in range(60):
        agent.train(batch_of(rows, rng))
    return policy_of(agent.export(), chosen.shape)


def test_forty_described_offers_are_learned_where_forty_mere_names_are_not() -> None:
    assert share(learned("neural_greedy", described=True)) >= 0.8
    assert share(learned("neural_greedy", described=False)) < 0.6


def test_an_offer_that_was_never_made_is_judged_by_those_that_are_like_it() -> None:
    chosen, rng = application("neural_greedy"), np.random.default_rng(1)
    agent, rows = build(chosen), taken(rng, 2_000)
    rows = Rows(*(column[rows.action >= 10] for column in rows))  # ten are never tried
    for _ in range(80):
        agent.train(batch_of(rows, rng))
    observation = np.random.default_rng(9).uniform(-1, 1, (500, 3)).astype(np.float32)
    scores = policy_of(agent.export(), chosen.shape).scores(observation)
    for never in range(10):
        assert np.corrcoef(scores[:, never], chances(observation)[:, never])[0, 1] > 0.5


@pytest.mark.parametrize("name", READING)
def test_the_bundle_carries_what_describes_the_actions(name: str) -> None:
    episodic = "episodic" in AGENTS[name].problems
    chosen = application(name, problem=Episodic() if episodic else Bandit())
    agent, rng = build(chosen), np.random.default_rng(2)
    rows = taken(rng, 400)
    for _ in range(5):
        agent.train(batch_of(rows, rng))
    observation = rng.uniform(-3, 3, (50, 3)).astype(np.float32)
    exported = agent.export()
    np.testing.assert_allclose(exported.arrays["action_features"], DESCRIBED, rtol=1e-6)
    found = policy_of(exported, chosen.shape).scores(observation)
    np.testing.assert_allclose(found, agent.scores(observation), rtol=1e-5, atol=1e-5)
    assert np.ptp(found, axis=1).min() > 1e-4


def test_an_agent_that_reads_no_features_is_refused_where_there_are_some() -> None:
    for name, kind in AGENTS.items():
        if "discrete" not in kind.actions or kind.reads_features or "bandit" not in kind.problems:
            continue
        settings: dict[str, Any] = {"actions": "discrete", "problem": "bandit", "features": True}

        with pytest.raises(ApplicationError, match="use dqn or neural_greedy"):
            check_agent(name, {}, **settings)
