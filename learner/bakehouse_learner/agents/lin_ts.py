"""`lin_ts`: a linear model of every action's reward; each is answered as often as it is best."""

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
    from tf_agents.bandits.agents import linear_thompson_sampling_agent as linear_thompson


def build(setup: Setup) -> Agent:
    """TF-Agents' LinearThompsonSamplingAgent (Agrawal & Goyal 2013).

    It draws every action's mean reward from its posterior and answers the largest, and cannot
    say how probable that was. The bundle carries the posterior instead, and serving works out
    the probability of each action of being the largest: `bakehouse_schemas.policy.thompson`. The
    posterior's width is in deviations of the reward, estimated from the rows, so `scale` has no
    unit.
    """
    scale = float(setup.parameters["scale"])
    return LinearAgent(
        setup,
        linear_thompson.LinearThompsonSamplingAgent,
        alpha=scale,
        emits=POLICY_INFO.PREDICTED_REWARDS_MEAN,
        head=lambda statistics: Head(kind="thompson", scale=scale * statistics.deviation()),
    )
