"""`bc`: behavioural cloning; learns to answer as the log did, whatever came of it."""

from __future__ import annotations

from typing import Any

from learner.agents.adapter import Agent, Setup
from learner.agents.gradient import GradientAgent
from learner.agents.networks import perceptron
from learner.agents.readouts import Logits
from learner.specs import Minibatch, specs_of
from learner.tensorflow_setup import tf

_NOT = -1e9  # the logit of an action that is not eligible


def build(setup: Setup) -> Agent:
    """For discrete actions; see `discrete`."""
    return discrete(setup)


def discrete(setup: Setup) -> Agent:
    """Cross-entropy of the logged action, the loss of TF-Agents' BehavioralCloningAgent.

    Over the eligible actions, which TF-Agents' has no place for: an action that could not be
    chosen says nothing about who chose.
    """
    specs = specs_of(setup.application)
    network = perceptron(setup, specs.values, specs.actions)

    def loss(batch: Minibatch) -> Any:
        logits, _ = network(batch.values, training=True)
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
