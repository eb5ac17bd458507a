"""What does one training show the agent, and what is asked of it?

New and amended rows and old ones, in minibatches, or all of them at once. An apprentice sees the
same contexts, and is asked what the rules answer there instead of what was earned.
"""

from __future__ import annotations

import numpy as np

from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.training.agent import TrainableAgent
from bakehouse_learner.training.apprentice import asked_of_an_apprentice
from bakehouse_learner.training.batch import Batch, Rows
from bakehouse_learner.training.minibatches import draw_rows, gather
from bakehouse_learner.training.priorities import Priorities, importance
from bakehouse_learner.training.returns import Returns
from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.application.application import Application


def train_agent(
    agent: TrainableAgent,
    ring: Ring,
    returns: Returns,
    *,
    new: np.ndarray,
    trainable: np.ndarray,
    application: Application,
    apprentice: bool,
    priorities: Priorities,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Train the agent once; returns its losses by name.

    Args:
        returns: of all resident decisions, by slot.
        new: slots that are new or amended, int `[f]`, all of them trainable
        trainable: slots, int `[t]`, t ≥ 1
        apprentice: it learns to match the rules.
        priorities: of the rows; moved where the agent asks for them.
    """
    asks = _Asks(application, ring, rng) if apprentice else None
    losses: dict[str, float] = {}
    if agent.learns_from_minibatches:
        steps, size = application.training.steps, application.training.batch
        weight, probabilities = None, None
        if agent.prioritised:
            probabilities = priorities.probabilities(trainable, ring.sequence[trainable])
            weight = np.ones(ring.size, np.float32)
            weight[trainable] = importance(probabilities)
        calls = draw_rows(
            new, trainable, per_call=steps * size, rng=rng, probabilities=probabilities
        )
        for slots in calls:
            of_slots = Returns(*(values[slots] for values in returns))
            batch = gather(ring, slots, of_slots, steps=steps, batch=size)
            if asks is not None:
                batch = asks.instead(batch, slots)
            if weight is not None:
                batch = batch._replace(weight=weight[slots].reshape(batch.weight.shape))
            losses = agent.train(batch)
            if agent.row_errors is not None:
                priorities.update(slots, ring.sequence[slots], agent.row_errors.ravel())
    if agent.learns_from_ring:  # after the minibatches: it may build on what they made
        rows = Rows(
            observation=ring.observation[trainable],
            action=ring.action[trainable],
            reward=returns.reward[trainable].astype(np.float32),
        )
        if asks is not None:
            action, reward = asks.of(trainable)
            rows = rows._replace(action=action, reward=reward)
        losses = losses | agent.fit(rows)
    return losses


def compile_agent(agent: TrainableAgent, application: Application) -> None:
    """Train on rows of nothing, which compiles the training function; the agent forgets them."""
    before = {name: np.copy(value) for name, value in agent.state().items()}
    ring, training = Ring(application), application.training
    ring.reserve()
    slots = np.zeros(training.steps * training.batch, dtype=np.int64)
    nothing = np.zeros(len(slots))
    returns = Returns(nothing, nothing, slots, nothing > 0)
    batch = gather(ring, slots, returns, steps=training.steps, batch=training.batch)
    agent.train(batch._replace(eligible=np.ones_like(batch.eligible)))
    agent.restore(before)


class _Asks:
    """What an apprentice is asked of resident contexts."""

    def __init__(self, application: Application, ring: Ring, rng: np.random.Generator) -> None:
        self._imitates = AGENTS[application.agent.name].imitates
        self._ring = ring
        self._rng = rng

    def of(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Actions, as the agent takes them, and how well they match the rules' own."""
        ring = self._ring
        baseline = ring.baseline[slots].reshape(len(slots), -1).astype(np.float64)
        if self._imitates:
            rows, reward = baseline, np.ones(len(slots), np.float32)
        else:
            eligible = ring.eligible[slots]
            rows, reward = asked_of_an_apprentice(ring.shape, baseline, eligible, self._rng)
        return (rows[:, 0].astype(np.int32) if ring.labels else rows), reward

    def instead(self, batch: Batch, slots: np.ndarray) -> Batch:
        """The same contexts, with what is asked of them; nothing follows."""
        action, reward = self.of(slots)
        return batch._replace(
            action=action.reshape(batch.action.shape).astype(batch.action.dtype),
            reward=reward.reshape(batch.reward.shape),
            discount=np.zeros_like(batch.discount),
            next_observation=np.zeros_like(batch.next_observation),
            next_eligible=np.ones_like(batch.next_eligible),
            propensity=None,
        )
