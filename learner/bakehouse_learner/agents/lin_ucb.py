"""`lin_ucb`: a linear model of every action's reward, optimistic where little is known."""

from __future__ import annotations

import warnings

from bakehouse_learner.agents.common.linear import LinearAgent
from bakehouse_learner.training.agent import Agent, Setup
from bakehouse_learner.training.tensorflow_setup import POLICY_INFO
from bakehouse_schemas.policy.policy import Head

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore"
    )  # the reasons stand in bakehouse_learner.training.tensorflow_setup
    from tf_agents.bandits.agents import lin_ucb_agent


def build(setup: Setup) -> Agent:
    """TF-Agents' LinearUCBAgent (Li et al. 2010, https://arxiv.org/abs/1003.0146)."""
    alpha = float(setup.parameters["alpha"])
    return LinearAgent(
        setup,
        lin_ucb_agent.LinearUCBAgent,
        alpha=alpha,
        emits=POLICY_INFO.PREDICTED_REWARDS_OPTIMISTIC,
        head=lambda _: Head(kind="linear", alpha=alpha),
    )
