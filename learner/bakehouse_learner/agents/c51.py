"""`c51`: double Q-learning of the whole distribution of the return."""

from __future__ import annotations

from typing import Any

from bakehouse_learner.agents.common.categorical import categorical_loss, support_of
from bakehouse_learner.agents.common.gradient import GradientAgent
from bakehouse_learner.agents.common.networks import perceptron, target_of
from bakehouse_learner.agents.common.readouts import Categorical
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.specs import Minibatch, specs_of


def build(setup: Setup) -> TrainableAgent:
    """The agent; see `bakehouse_learner.agents.common.categorical`. n-step by the batch's γ^k."""
    specs = specs_of(setup.application)
    readout = Categorical(support_of(setup))
    network = perceptron(setup, specs.values, specs.actions * len(readout.support))
    bandit = setup.application.problem.kind == "bandit"
    target = None if bandit else target_of(network)
    with_errors = categorical_loss(network, target, readout)

    def loss(batch: Minibatch) -> Any:
        return with_errors(batch)[0]

    return GradientAgent(
        setup,
        network=network,
        loss=loss,
        learning_rate=setup.parameters["learning_rate"],
        centred=bandit,
        target=target,
        readout=readout,
    )
