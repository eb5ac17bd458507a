"""`ppo`: proximal policy optimisation; a policy with a randomness of its own, in small steps."""

from __future__ import annotations

from typing import Any

from bakehouse_learner.agents.common.actor_critic import ActorCritic, Taken, importance
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.tensorflow_setup import tf


def build(setup: Setup) -> TrainableAgent:
    """See `clipped`."""
    clip = setup.parameters["clip"]
    return ActorCritic(setup, lambda taken: clipped(taken, clip))


def clipped(taken: Taken, clip: float) -> Any:
    """Clipped surrogate (Schulman et al. 2017), step and weight apart (Hilton et al. 2021). `[B]`

    With p as logged and `before` the policy before this training:
    `π / p = (before / p) · (π / before)`. The first factor weighs the row, whoever decided it; the
    second is the step, which is clipped. Clipping `π / p` itself would tie every candidate to
    within `clip` of version 0 until the gate lets one out.
    """
    step = tf.exp(tf.clip_by_value(taken.log_ratio - taken.log_before, -5.0, 5.0))
    kept = tf.clip_by_value(step, 1.0 - clip, 1.0 + clip)
    gain = tf.minimum(step * taken.advantage, kept * taken.advantage)
    return -importance(taken.log_before) * gain
