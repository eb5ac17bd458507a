"""Minibatches a second through the compiled training function, at batch 64 and 256.

The figure of the title is `neural_greedy`, the agent of the first example: 16 numbers in, two
layers of 64, 4 actions. A call takes `steps` minibatches of rows as the ring gives them; what
making, checking and copying them costs is in it, and so is the first step of every call.

    minibatches_per_s        by batch, median over alternating rounds
    rows_per_s               the same in rows
    cpu_per_minibatch_us     CPU of one, by batch
    agents                   minibatches a second of every agent that learns from minibatches, and
                             for those that learn from the whole ring, seconds for `fit_rows` rows
    dqn_over_sb3             minibatches a second of `dqn` at 256 against Stable-Baselines3's DQN
    dqn_over_tf_agents_loop  the same against one call of TF-Agents' train a minibatch
    sb3_cpu_over_dqn, tf_agents_loop_cpu_over_dqn
                             CPU of a minibatch, theirs against ours
    contenders               the figures that these four are made of: `tests/bench/peers.py` says
                             what is equal and what is not

Stable-Baselines3 is no part of the default install; without it the rest is measured:

    uv run --group peers python -m tests.bench learn
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from bakehouse_learner.agents import build_agent
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.batch import Batch, Rows
from bakehouse_learner.training.normaliser import static_normaliser
from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.application.application import Agent, Application, Bandit, Episodic, Training
from tests.bench.game import application
from tests.bench.measure import Cost, Options, alternate, cost_of, median
from tests.bench.peers import compared

BATCHES = (64, 256)
STEPS = 20


def run(options: Options) -> dict[str, Any]:
    """Measure; see the module."""
    calls = options.sized(100, 5)
    rounds = options.sized(5, 2)
    fit_rows = options.sized(200_000, 20_000)
    agents: dict[str, Any] = {}
    costs: dict[int, list[Cost]] = {}
    against = compared(options)
    for name, kind in AGENTS.items():
        if "discrete" not in kind.actions:
            options.say(f"{name}: not measured, the measured game's actions are labels")
            continue
        agents[name] = {}
        agent = built(name, BATCHES[0])
        if agent.learns_from_minibatches:
            found = minibatches(name, calls, rounds, options)
            agents[name] |= rates(found, calls)
            if name == "neural_greedy":
                costs = found
        if agent.learns_from_ring:
            agents[name] |= {"fit_rows": fit_rows, "fit_s": fit_s(name, fit_rows, rounds)}
            options.say(f"{name}: {fit_rows} rows in {agents[name]['fit_s']:.3f} s")
    main = rates(costs, calls)
    return {
        "minibatches_per_s": main,
        "rows_per_s": {batch: main[batch] * batch for batch in BATCHES},
        "cpu_per_minibatch_us": {
            batch: median(c.cpu_s for c in found) / (calls * STEPS) * 1e6
            for batch, found in costs.items()
        },
        "steps_a_call": STEPS,
        "agents": agents,
        **against,
    }


def rates(costs: dict[int, list[Cost]], calls: int) -> dict[int, float]:
    """Minibatches a second by batch."""
    return {
        batch: calls * STEPS / median(c.wall_s for c in found) for batch, found in costs.items()
    }


def measured(name: str, batch: int) -> Application:
    """The measured application with another agent."""
    episodic = "episodic" in AGENTS[name].problems
    return replace(
        application,
        agent=Agent(name),
        problem=Episodic(n_step=3) if episodic else Bandit(),
        training=Training(batch=batch, steps=STEPS),
    )


def built(name: str, batch: int) -> TrainableAgent:
    """An agent, ready to train."""
    found = measured(name, batch)
    normaliser = static_normaliser(found.encoder.bounds())
    assert normaliser is not None
    return build_agent(Setup(application=found, normaliser=normaliser, seed=0))


def minibatches(name: str, calls: int, rounds: int, options: Options) -> dict[int, list[Cost]]:
    """Cost of some calls, round after round, by batch."""
    agents = {batch: built(name, batch) for batch in BATCHES}
    data = {batch: random_batch(measured(name, batch), batch) for batch in BATCHES}
    for batch, agent in agents.items():
        agent.train(data[batch])  # compiles

    def train(batch: int) -> Cost:
        with cost_of(os.getpid()) as cost:
            for _ in range(calls):
                agents[batch].train(data[batch])
        return cost

    found = alternate(
        rounds,
        {str(batch): partial(train, batch) for batch in BATCHES},
        after=lambda what, c: options.say(
            f"{name}, {what}: {calls * STEPS / c.wall_s:.0f} a second"
        ),
    )
    return {int(batch): costs for batch, costs in found.items()}


def fit_s(name: str, count: int, rounds: int) -> float:
    """Seconds to recompute the statistics from a full ring."""
    agent = built(name, BATCHES[0])
    rng = np.random.default_rng(0)
    rows = Rows(
        observation=rng.random((count, application.encoder.size), np.float32),
        action=rng.integers(0, len(application.actions), count).astype(np.int32),
        reward=rng.normal(size=count).astype(np.float32),
    )
    agent.fit(rows)
    walls = []
    for _ in range(rounds):
        with cost_of(os.getpid()) as cost:
            agent.fit(rows)
        walls.append(cost.wall_s)
    return median(walls)


def random_batch(found: Application, batch: int) -> Batch:
    """STEPS minibatches of random rows, with successors where the problem has them."""
    rng = np.random.default_rng(0)
    size, actions = found.encoder.size, len(found.actions)
    shape = (STEPS, batch)
    follows = rng.random(shape) < 0.7 if found.problem.kind == "episodic" else np.zeros(shape, bool)
    return Batch(
        observation=rng.random((*shape, size), np.float32),
        eligible=np.ones((*shape, actions), bool),
        action=rng.integers(0, actions, shape).astype(np.int32),
        reward=rng.normal(size=shape).astype(np.float32),
        discount=np.where(follows, 0.97, 0.0).astype(np.float32),
        next_observation=np.where(follows[..., None], rng.random((*shape, size)), 0).astype(
            np.float32
        ),
        next_eligible=np.ones((*shape, actions), bool),
        weight=np.ones(shape, np.float32),
    )
