"""`neural_greedy`: a network predicts the reward of every action; the best is answered."""

from __future__ import annotations

from typing import Any

from bakehouse_learner.agents.common.described import action_network
from bakehouse_learner.agents.common.gradient import GradientAgent
from bakehouse_learner.agents.common.tf_agents_bridge import (
    GreedyRewardPredictionAgent,
    adapted,
    constructor_specs,
    split_mask,
)
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.specs import Minibatch
from bakehouse_learner.training.tensorflow_setup import tf


def build(setup: Setup) -> TrainableAgent:
    """TF-Agents' GreedyRewardPredictionAgent.

    The loss is the squared error, because its minimum is the mean reward. Huber's tends to the
    median, and would not see a reward that is large and seldom, such as a purchase.
    """
    network = action_network(setup)
    agent = GreedyRewardPredictionAgent(
        *constructor_specs(setup.application),
        reward_network=adapted(network),
        optimizer=None,  # steps are taken by bakehouse_learner.training.compiled_steps
        observation_and_action_constraint_splitter=split_mask,
        error_loss_fn=tf.compat.v1.losses.mean_squared_error,
        enable_summaries=False,
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )

    def loss(batch: Minibatch) -> Any:
        return agent.reward_loss(
            batch.values, batch.action, batch.reward, weights=batch.weight, training=True
        )

    return GradientAgent(
        setup,
        network=network,
        loss=loss,
        learning_rate=setup.parameters["learning_rate"],
        centred=True,
    )
