"""`c51`: double Q-learning of the whole distribution of the return."""

from __future__ import annotations

from typing import Any

from learner.agents.adapter import Agent, Setup
from learner.agents.categorical import categorical_loss, support_of
from learner.agents.gradient import GradientAgent
from learner.agents.networks import perceptron, target_of
from learner.agents.readouts import Categorical
from learner.specs import Minibatch, specs_of


def build(setup: Setup) -> Agent:
    """The agent; see `learner.agents.categorical`. n-step by the batch's γ^k."""
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
