"""`lin_ucb`: a linear model of every action's reward, optimistic where little is known."""

from __future__ import annotations

from bakehouse_learner.agents.common.linear import LinearAgent
from bakehouse_learner.agents.common.tf_agents_bridge import InfoFields, LinearUCBAgent
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_schemas.policy.policy import Head


def build(setup: Setup) -> TrainableAgent:
    """TF-Agents' LinearUCBAgent (Li et al. 2010, https://arxiv.org/abs/1003.0146)."""
    alpha = float(setup.parameters["alpha"])
    return LinearAgent(
        setup,
        LinearUCBAgent,
        alpha=alpha,
        emits=InfoFields.PREDICTED_REWARDS_OPTIMISTIC,
        head=lambda _: Head(kind="linear", alpha=alpha),
    )
