"""`dqn`: double deep Q-learning with n-step returns, over the next eligible actions."""

from __future__ import annotations

from typing import Any

from bakehouse_learner.agents.common.described import action_network
from bakehouse_learner.agents.common.gradient import GradientAgent
from bakehouse_learner.agents.common.networks import target_of
from bakehouse_learner.agents.common.tf_agents_bridge import (
    DdqnAgent,
    adapted,
    constructor_specs,
    element_wise_squared_loss,
    split_mask,
    transition_of,
)
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.specs import Minibatch
from bakehouse_learner.training.tensorflow_setup import tf


def build(setup: Setup) -> TrainableAgent:
    """TF-Agents' DdqnAgent (van Hasselt et al. 2015, https://arxiv.org/abs/1509.06461).

    n-step sums and γ^k come with the batch, so the agent's own γ is 1 and its step is one. Of a
    bandit problem every discount is 0 and the Q value is the mean reward.
    """
    network = action_network(setup)
    target = target_of(network)
    agent = ddqn(setup, network, target)

    def loss(batch: Minibatch) -> Any:
        return agent.loss(transition_of(batch), weights=batch.weight, training=True).loss

    return GradientAgent(
        setup,
        network=network,
        loss=loss,
        learning_rate=setup.parameters["learning_rate"],
        centred=setup.application.problem.kind == "bandit",
        target=target,
    )


def ddqn(setup: Setup, network: Any, target: Any) -> Any:
    """TF-Agents' agent, for its loss alone: steps and targets are `GradientAgent`'s."""
    return DdqnAgent(
        *constructor_specs(setup.application),
        q_network=adapted(network),
        optimizer=None,
        observation_and_action_constraint_splitter=split_mask,
        target_q_network=adapted(target),
        # its minimum is the mean return, Huber's is not; the gradient's norm is cut instead
        td_errors_loss_fn=element_wise_squared_loss,
        gamma=1.0,
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
