"""Worlds of a few lines with a known answer, in the shapes that agents are given."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from learner.agents import build_agent
from learner.agents.adapter import Agent, Setup
from learner.batch import Batch, Rows
from learner.normaliser import static_normaliser
from schemas.agents import AGENTS
from schemas.application import Agent as Chosen
from schemas.application import (
    Application,
    Bandit,
    Discrete,
    Episodic,
    Training,
    seconds,
)
from schemas.observation import Feature, Vector
from schemas.policy import Policy
from schemas.reward import Reward

BATCH, STEPS = 32, 8
DISCRETE = sorted(name for name, kind in AGENTS.items() if "discrete" in kind.actions)
TASTES = Vector("tastes", length=3, low=-1, high=1)


def application_for(
    name: str,
    *,
    feature: Feature = TASTES,
    actions: int = 3,
    problem: Bandit | Episodic = Bandit(),  # noqa: B008 - frozen
    **parameters: Any,
) -> Application:
    return Application(
        name="exam",
        observation=[feature],
        actions=Discrete(*(f"action-{at}" for at in range(actions))),
        reward=Reward({"liked": 1.0}, window=seconds(10)),
        baseline=lambda context: "action-0",
        problem=problem,
        agent=Chosen(name, **parameters),
        training=Training(batch=BATCH, steps=STEPS),
    )


def build(application: Application, *, seed: int = 0) -> Agent:
    normaliser = static_normaliser(application.encoder.bounds())
    assert normaliser is not None
    return build_agent(Setup(application, normaliser, seed))


@cache
def _built(name: str, twin: int) -> tuple[Agent, dict[str, np.ndarray]]:
    agent = build(application_for(name))
    return agent, {key: array.copy() for key, array in agent.state().items()}


def untrained(name: str, twin: int = 0) -> Agent:
    """An agent for the world of tastes. Compiled once, and put back to its beginning.

    Twins are built and compiled each for itself, of the same seed.
    """
    agent, beginning = _built(name, twin)
    agent.restore(beginning)
    return agent


def policy_of(agent: Agent, actions: int) -> Policy:
    operations, head, arrays = agent.export()
    return Policy(operations=operations, head=head, arrays=arrays, actions=actions)


def learn(
    agent: Agent, rows: Rows, rng: np.random.Generator, *, steps: int = STEPS
) -> dict[str, float]:
    """Let the agent learn from these rows in its own way, once; its losses."""
    losses: dict[str, float] = {}
    if agent.learns_from_minibatches:
        chosen = rng.integers(0, len(rows.action), (steps, BATCH))
        losses |= agent.train(minibatches(rows, chosen))
    if agent.learns_from_ring:
        losses |= agent.fit(rows)
    return losses


def minibatches(rows: Rows, chosen: np.ndarray, *, actions: int = 3) -> Batch:
    """Minibatches of a bandit: the rows at `chosen [N, B]`."""
    observation = rows.observation[chosen]
    return Batch(
        observation=observation,
        eligible=np.ones((*chosen.shape, actions), bool),
        action=rows.action[chosen],
        reward=rows.reward[chosen],
        discount=np.zeros(chosen.shape, np.float32),
        next_observation=np.zeros_like(observation),
        next_eligible=np.ones((*chosen.shape, actions), bool),
        weight=np.ones(chosen.shape, np.float32),
        propensity=np.full(chosen.shape, 1 / actions, np.float32),
    )


def tastes(rng: np.random.Generator, n: int) -> Rows:
    """Action a is liked with probability `0.5 + 0.4 · taste_a`; logged uniformly."""
    observation = rng.uniform(-1, 1, (n, 3)).astype(np.float32)
    action = rng.integers(0, 3, n).astype(np.int32)
    liked = rng.random(n) < 0.5 + 0.4 * observation[np.arange(n), action]
    return Rows(observation, action, liked.astype(np.float32))


def demonstrated(rng: np.random.Generator, n: int) -> Rows:
    """The same world, logged by someone who always answers to the strongest taste."""
    rows = tastes(rng, n)
    return rows._replace(action=rows.observation.argmax(axis=1).astype(np.int32))


def lessons(name: str, rng: np.random.Generator, n: int) -> Rows:
    """Rows that an agent of this name can learn the world of tastes from."""
    return (demonstrated if name == "bc" else tastes)(rng, n)


def share_of_tastes(policy: Policy) -> float:
    """`(policy − uniform) / (best − uniform)` of the noise-free mean reward."""
    observation = np.random.default_rng(99).uniform(-1, 1, (4_000, 3)).astype(np.float32)
    value = 0.5 + 0.4 * observation
    chosen = policy.distribution(observation, np.ones((4_000, 3), bool))
    uniform = value.mean()
    got, best = (chosen * value).sum(axis=1).mean(), value.max(axis=1).mean()
    return float((got - uniform) / (best - uniform))
