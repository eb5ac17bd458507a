"""`dqn_cql`: double Q-learning that distrusts what was not tried; for learning from logs."""

from __future__ import annotations

from typing import Any

from bakehouse_learner.agents.common.gradient import GradientAgent
from bakehouse_learner.agents.common.networks import perceptron, target_of
from bakehouse_learner.agents.common.tf_agents_bridge import transition_of
from bakehouse_learner.agents.dqn import ddqn
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.specs import Minibatch, specs_of
from bakehouse_learner.training.tensorflow_setup import tf

_NOT = -1e9  # the value of an action that is not eligible


def build(setup: Setup) -> TrainableAgent:
    """Conservative Q-learning (Kumar et al. 2020, https://arxiv.org/abs/2006.04779), CQL(H).

    To DQN's loss it adds `alpha · mean(log Σ exp Q − Q(action))` over the eligible actions, in
    units of the reward's spread. Values are pushed down where the log has no action, so they are
    lower bounds, and no longer mean returns.
    """
    specs = specs_of(setup.application)
    network = perceptron(setup, specs.values, specs.actions)
    target = target_of(network)
    agent = ddqn(setup, network, target)
    alpha = float(setup.parameters["alpha"])

    def loss(batch: Minibatch) -> Any:
        td = agent.loss(transition_of(batch), weights=batch.weight, training=True).loss
        values = network(batch.values, training=True)
        taken = tf.one_hot(batch.action, specs.actions, on_value=True, off_value=False)
        possible = tf.where(batch.eligible | taken, values, _NOT)
        gap = tf.reduce_logsumexp(possible, axis=1) - tf.reduce_sum(
            tf.where(taken, values, 0.0), axis=1
        )
        return td + alpha * tf.reduce_mean(batch.weight * gap)

    return GradientAgent(
        setup,
        network=network,
        loss=loss,
        learning_rate=setup.parameters["learning_rate"],
        centred=setup.application.problem.kind == "bandit",
        target=target,
    )
