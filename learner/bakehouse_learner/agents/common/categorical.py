"""Categorical Q-learning: the distribution of the return, over a fixed support.

Bellemare, Dabney & Munos 2017, "A distributional perspective on reinforcement learning"
(https://arxiv.org/abs/1707.06887), with the next action chosen by the network itself and
valued by the target (van Hasselt et al. 2015), which TF-Agents' C51 does not do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bakehouse_learner.agents.common.readouts import Categorical
from bakehouse_learner.training.agent import Setup
from bakehouse_learner.training.specs import Minibatch
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.application.application import Episodic

# Reward units that one return may lie from 0: a win of one decision in a hundred lies at 10.
REACH = 10.0
HORIZON = 100.0  # steps that are summed where γ is (almost) 1, as the gate counts them
_NOT = -1e9  # the value of an action that is not eligible


def support_of(setup: Setup) -> np.ndarray:
    """The support in units of the reward's spread, float32 `[N]`, 0 in its middle.

    A bandit's rewards are learned as differences from their mean, in standard deviations: ±10.
    With a discount they are in root mean squares of the n-step sums; a constant one would add up
    to 1 / (1 − γⁿ), so that much lies beyond the 10. Projection keeps a mean exactly wherever it
    falls inside; what lies outside counts as the end.
    """
    reach, problem = REACH, setup.application.problem
    if isinstance(problem, Episodic):
        left = 1.0 - problem.discount**problem.n_step
        reach += min(1.0 / left, HORIZON) if left > 0 else HORIZON
    return np.linspace(-reach, reach, setup.parameters["atoms"], dtype=np.float32)


def project(probability: Any, returns: Any, support: np.ndarray) -> Any:
    """Mass at `returns` shared between its neighbours on the support; keeps means inside it.

    Args:
        probability: of each return. `[B, M]`
        returns: `[B, M]`

    Returns:
        `[B, N]`
    """
    last = len(support) - 1
    gap = np.float32((support[-1] - support[0]) / last)
    at = tf.clip_by_value((returns - support[0]) / gap, 0.0, float(last))  # [B, M]
    places = tf.range(len(support), dtype=tf.float32)
    share = tf.maximum(1.0 - tf.abs(at[:, :, None] - places), 0.0)  # [B, M, N]
    return tf.einsum("bm,bmn->bn", probability, share)


def categorical_loss(
    network: Any, target: Any | None, readout: Categorical
) -> Callable[[Minibatch], tuple[Any, Any]]:
    """Mean cross-entropy of a minibatch, and each row's |error| of the expected return `[B]`.

    Args:
        target: slower copy of the network; None of a bandit, whose rows have no successor.
    """
    support = readout.support

    def goal_of(batch: Minibatch, rows: Any) -> Any:
        if target is None:  # a bandit's return is its reward
            return project(tf.ones_like(batch.reward)[:, None], batch.reward[:, None], support)
        next_logits = readout.logits(network(batch.next_values))
        values = tf.where(batch.next_eligible, readout.expected(next_logits), _NOT)
        best = tf.argmax(values, axis=1, output_type=tf.int32)
        slower = readout.logits(target(batch.next_values))
        probability = tf.nn.softmax(tf.gather_nd(slower, tf.stack([rows, best], axis=1)))
        returns = batch.reward[:, None] + batch.discount[:, None] * support  # [B, N]
        return tf.stop_gradient(project(probability, returns, support))

    def loss(batch: Minibatch) -> tuple[Any, Any]:
        rows = tf.range(batch.action.shape[0])
        goal = goal_of(batch, rows)
        logits = readout.logits(network(batch.values, training=True))
        chosen = tf.gather_nd(logits, tf.stack([rows, batch.action], axis=1))  # [B, N]
        cross_entropy = tf.nn.softmax_cross_entropy_with_logits(goal, chosen)
        error = tf.abs(tf.linalg.matvec(goal, support) - readout.expected(chosen))
        return tf.reduce_mean(batch.weight * cross_entropy), error

    return loss
