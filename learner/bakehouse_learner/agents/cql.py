"""`cql`: soft actor-critic that distrusts numbers that were not tried; for learning from logs."""

from __future__ import annotations

import math
from typing import Any

from bakehouse_learner.agents.common.squashed import drawn
from bakehouse_learner.agents.sac import OWN, OWN_NEXT, UNIFORM, SoftParts, judged
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.specs import Minibatch
from bakehouse_learner.training.tensorflow_setup import tf

SAMPLES = 4  # of each kind, a row


def build(setup: Setup) -> TrainableAgent:
    """Conservative Q-learning (Kumar et al. 2020, https://arxiv.org/abs/2006.04779), CQL(H) on SAC.

    To the critics' loss it adds `alpha · mean(log ∫ exp Q − Q(action))`, in units of the reward's
    spread. The integral is estimated by importance sampling from the uniform density and from the
    policy (appendix F). Values are pushed down where the log has no action, so they are lower
    bounds, and no longer mean returns.
    """
    parts = SoftParts(setup)
    alpha = float(setup.parameters["alpha"])

    def critic_loss(batch: Minibatch) -> Any:
        gap = conservative_gap(parts, batch)
        return parts.critic_loss(batch) + alpha * tf.reduce_mean(batch.weight * gap)

    return judged(setup, parts, critic_loss)


def conservative_gap(parts: SoftParts, batch: Minibatch) -> Any:
    """`log ∫ exp Q(x, a) da − Q(x, logged action)`, both critics added up, over [−1, 1]: `[B]`."""
    rows, dims = batch.values.shape[0], parts.dims
    actions = [parts.draws.uniform([SAMPLES, rows, dims], UNIFORM)]
    log_density = [tf.fill([SAMPLES, rows], -dims * math.log(2.0))]
    for values, purpose in ((batch.values, OWN), (batch.next_values, OWN_NEXT)):
        if purpose == OWN_NEXT and not parts.episodic:
            continue
        answer = parts.actor(values)
        noise = parts.draws.normal([SAMPLES, rows, dims], purpose)
        own, log_own = drawn(answer, noise)
        actions.append(tf.stop_gradient(own))
        log_density.append(tf.stop_gradient(log_own))
    tried, log_tried = tf.concat(actions, axis=0), tf.concat(log_density, axis=0)  # [S, B, …]
    count = tried.shape[0]
    seen = tf.tile(batch.values, [count, 1])
    logged = parts.critics.values(batch.values, parts.box.inside(batch.action), training=True)
    gap = tf.zeros_like(batch.reward)
    for q, mine in zip(
        parts.critics.values(seen, tf.reshape(tried, [count * rows, dims]), training=True),
        logged,
        strict=True,
    ):
        exponents = tf.reshape(q, [count, rows]) - log_tried
        gap += tf.reduce_logsumexp(exponents, axis=0) - math.log(count) - mine
    return gap
