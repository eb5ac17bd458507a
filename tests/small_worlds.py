"""Worlds of a few lines with a known answer, in the shapes that agents are given."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from bakehouse_learner.agents import build_agent
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.batch import Batch, Rows
from bakehouse_learner.training.normaliser import static_normaliser
from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.application.application import (
    Agent,
    Application,
    Bandit,
    Continuous,
    Discrete,
    Episodic,
    Training,
    seconds,
)
from bakehouse_schemas.application.observation import Feature, Vector
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.application.shape import Shape
from bakehouse_schemas.policy.policy import Policy

BATCH, STEPS = 32, 8
DISCRETE = sorted(name for name, kind in AGENTS.items() if "discrete" in kind.actions)
TASTES = Vector("tastes", length=3, low=-1, high=1)
SWEETEST = 20.0  # of continuous actions, which begin at 10


def application_for(
    name: str,
    *,
    feature: Feature = TASTES,
    actions: int = 3,
    kind: str = "discrete",
    problem: Bandit | Episodic = Bandit(),  # noqa: B008 - frozen
    **parameters: Any,
) -> Application:
    """Of `kind` continuous, the action is one number, or two in place of four labels."""
    numbers = actions // 2
    return Application(
        name="exam",
        observation=[feature],
        actions=(
            Discrete(*(f"action-{at}" for at in range(actions)))
            if kind == "discrete"
            else Continuous(low=10.0, high=SWEETEST, length=numbers)
        ),
        reward=Reward({"liked": 1.0}, window=seconds(10)),
        baseline=lambda context: "action-0" if kind == "discrete" else [15.0] * numbers,
        problem=problem,
        agent=Agent(name, **parameters),
        training=Training(batch=BATCH, steps=STEPS),
    )


def build(application: Application, *, seed: int = 0) -> TrainableAgent:
    normaliser = static_normaliser(application.encoder.bounds())
    assert normaliser is not None
    return build_agent(Setup(application, normaliser, seed))


@cache
def _built(name: str, twin: int, kind: str) -> tuple[TrainableAgent, dict[str, np.ndarray]]:
    agent = build(application_for(name, kind=kind))
    return agent, {key: array.copy() for key, array in agent.state().items()}


def untrained(name: str, twin: int = 0, *, kind: str = "discrete") -> TrainableAgent:
    """An agent for the world of tastes. Compiled once, and put back to its beginning.

    Twins are built and compiled each for itself, of the same seed.
    """
    agent, beginning = _built(name, twin, kind)
    agent.restore(beginning)
    return agent


def policy_of(agent: TrainableAgent, actions: int | Shape) -> Policy:
    operations, head, arrays = agent.export()
    return Policy(operations=operations, head=head, arrays=arrays, actions=actions)


def learn(
    agent: TrainableAgent, rows: Rows, rng: np.random.Generator, *, steps: int = STEPS
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
    """Minibatches of a bandit: the rows at `chosen [N, B]`, logged uniformly."""
    observation = rows.observation[chosen]
    if rows.action.ndim == 2:
        actions, propensity = 1, (SWEETEST - 10.0) ** -rows.action.shape[1]
    else:
        propensity = 1 / actions
    return Batch(
        observation=observation,
        eligible=np.ones((*chosen.shape, actions), bool),
        action=rows.action[chosen],
        reward=rows.reward[chosen],
        discount=np.zeros(chosen.shape, np.float32),
        next_observation=np.zeros_like(observation),
        next_eligible=np.ones((*chosen.shape, actions), bool),
        weight=np.ones(chosen.shape, np.float32),
        propensity=np.full(chosen.shape, propensity, np.float32),
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


def sweetness(rng: np.random.Generator, n: int) -> Rows:
    """A number from 10 to 20, best at `15 + 4 · taste_0`; what it is off by is not liked."""
    observation = rng.uniform(-1, 1, (n, 3)).astype(np.float32)
    action = rng.uniform(10, SWEETEST, (n, 1)).astype(np.float32)
    off = (action[:, 0] - sweetest(observation)) / 5.0
    reward = 1.0 - off**2 + 0.1 * rng.standard_normal(n)
    return Rows(observation, action, reward.astype(np.float32))


def sweetest(observation: np.ndarray) -> np.ndarray:
    """The best number of each context. `[n]`"""
    return np.asarray(15.0 + 4.0 * observation[:, 0])


def lessons(name: str, rng: np.random.Generator, n: int, *, kind: str = "discrete") -> Rows:
    """Rows that an agent of this name can learn its small world from."""
    if kind == "discrete":
        return (demonstrated if name == "bc" else tastes)(rng, n)
    rows = sweetness(rng, n)
    if name == "bc":  # by someone who nearly knows
        shown = sweetest(rows.observation) + 0.2 * rng.standard_normal(n)
        rows = rows._replace(action=shown[:, None].astype(np.float32))
    return rows


def share_of(agent: TrainableAgent, kind: str) -> float:
    """How far from uniform to the best an agent has come in its small world."""
    if kind == "discrete":
        return share_of_tastes(policy_of(agent, 3))
    shape = application_for("bc", kind=kind).shape
    observation = np.random.default_rng(99).uniform(-1, 1, (4_000, 3)).astype(np.float32)
    own = policy_of(agent, shape).base_policy(observation, np.ones((4_000, 1), bool))
    answer = 15.0 + 5.0 * np.tanh(own.mean) if own.squashed else own.mean
    off = ((answer[:, 0] - sweetest(observation)) / 5.0) ** 2
    uniform = 1 / 3 + ((sweetest(observation) - 15.0) / 5.0) ** 2
    return float(1.0 - off.mean() / uniform.mean())


def share_of_tastes(policy: Policy) -> float:
    """`(policy − uniform) / (best − uniform)` of the noise-free mean reward."""
    observation = np.random.default_rng(99).uniform(-1, 1, (4_000, 3)).astype(np.float32)
    value = 0.5 + 0.4 * observation
    chosen = policy.distribution(observation, np.ones((4_000, 3), bool))
    uniform = value.mean()
    got, best = (chosen * value).sum(axis=1).mean(), value.max(axis=1).mean()
    return float((got - uniform) / (best - uniform))
