"""`rainbow`: double, duelling, n-step, prioritised, categorical Q-learning."""

from __future__ import annotations

from typing import Any

from bakehouse_learner.agents.common.categorical import categorical_loss, support_of
from bakehouse_learner.agents.common.duelling import Duelling
from bakehouse_learner.agents.common.gradient import GradientAgent
from bakehouse_learner.agents.common.keras_layers import hidden_layers
from bakehouse_learner.agents.common.networks import copy_to, network_of
from bakehouse_learner.agents.common.readouts import Categorical
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.specs import specs_of
from bakehouse_learner.training.tensorflow_setup import tf


def build(setup: Setup) -> TrainableAgent:
    """Rainbow (Hessel et al. 2018, https://arxiv.org/abs/1710.02298) without noisy layers.

    Serving explores, with a propensity that is known; noise inside a network has none.
    """
    specs = specs_of(setup.application)
    readout = Categorical(support_of(setup))

    def duelling() -> Any:
        hidden = hidden_layers(setup)
        split = bool(hidden) and setup.parameters["network"] is None
        if split:  # twice as wide, so that each stream has a layer to itself
            hidden[-1] = tf.keras.layers.Dense(2 * hidden[-1].units, activation="relu")
        last = Duelling(specs.actions, len(readout.support), split=split)
        return network_of(specs.values, hidden, last, seed=setup.seed)

    bandit = setup.application.problem.kind == "bandit"
    network, target = duelling(), None if bandit else duelling()
    if target is not None:
        copy_to(network, target)
    return GradientAgent(
        setup,
        network=network,
        loss=categorical_loss(network, target, readout),
        learning_rate=setup.parameters["learning_rate"],
        centred=bandit,
        target=target,
        readout=readout,
        prioritised=True,
    )
