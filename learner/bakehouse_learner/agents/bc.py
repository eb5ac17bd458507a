"""`bc`: behavioural cloning; learns to answer as the log did, whatever came of it."""

from __future__ import annotations

import math
from typing import Any

from bakehouse_learner.agents.common.critics import Box
from bakehouse_learner.agents.common.gradient import GradientAgent
from bakehouse_learner.agents.common.networks import perceptron
from bakehouse_learner.agents.common.readouts import Logits
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.specs import Minibatch, specs_of
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.execution.bounded_normal import LEAST_STD
from bakehouse_schemas.policy.policy import LOG_STD, Head

_NOT = -1e9  # the logit of an action that is not eligible


def build(setup: Setup) -> TrainableAgent:
    """For labels or for numbers; see `discrete` and `continuous`."""
    return (discrete if setup.application.shape.kind == "discrete" else continuous)(setup)


def discrete(setup: Setup) -> TrainableAgent:
    """Cross-entropy of the logged action, the loss of TF-Agents' BehavioralCloningAgent.

    Over the eligible actions, which TF-Agents' has no place for: an action that could not be
    chosen says nothing about who chose.
    """
    specs = specs_of(setup.application)
    network = perceptron(setup, specs.values, specs.actions)

    def loss(batch: Minibatch) -> Any:
        logits = network(batch.values, training=True)
        taken = tf.one_hot(batch.action, specs.actions, on_value=True, off_value=False)
        possible = tf.where(batch.eligible | taken, logits, _NOT)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch.action, possible)
        return tf.reduce_mean(batch.weight * losses)

    return GradientAgent(
        setup,
        network=network,
        loss=loss,
        learning_rate=setup.parameters["learning_rate"],
        centred=False,
        readout=Logits(),
    )


def continuous(setup: Setup) -> TrainableAgent:
    """Greatest likelihood of the logged numbers: a mean and a spread for each.

    The spread is the log's own, exploration included. The density is that of serving, normal,
    truncated to the box, with the floor's share of uniform numbers, so neither a rule next to the
    end of its box nor a number from far away pulls the mean aside.
    """
    application = setup.application
    dims, box = application.shape.dims, Box(application.shape)
    share = application.exploration.floor
    network = perceptron(setup, specs_of(application).values, 2 * dims)

    def loss(batch: Minibatch) -> Any:
        mean, log_std = tf.split(network(batch.values, training=True), 2, axis=1)
        beyond = tf.nn.relu(tf.abs(mean) - 1.0)  # where the policy clips, no slope is left
        mean = tf.clip_by_value(mean, -1.0, 1.0)
        # a rule without spread has a density without bound
        log_std = tf.clip_by_value(log_std, math.log(2.0 * LEAST_STD), LOG_STD[1])
        density = truncated_normal(box.inside(batch.action), mean, tf.exp(log_std))
        rows = -tf.math.log((1.0 - share) * density + share / 2.0) + beyond**2
        return tf.reduce_mean(batch.weight * tf.reduce_sum(rows, axis=1))

    return GradientAgent(
        setup,
        network=network,
        loss=loss,
        learning_rate=setup.parameters["learning_rate"],
        centred=False,
        readout=Logits(Head(kind="gaussian")),
    )


def truncated_normal(number: Any, mean: Any, std: Any) -> Any:
    """Density on [−1, 1], means inside it: float32, broadcast."""
    root = math.sqrt(2.0)
    mass = 0.5 * (
        tf.math.erf((1.0 - mean) / (std * root)) + tf.math.erf((1.0 + mean) / (std * root))
    )
    density = tf.exp(-0.5 * ((number - mean) / std) ** 2) / (std * math.sqrt(2.0 * math.pi))
    return density / mass
