"""`lin_ts`: a linear model of every action's reward; each is answered as often as it is best."""

from __future__ import annotations

from bakehouse_learner.agents.common.linear import LinearAgent
from bakehouse_learner.agents.common.tf_agents_bridge import InfoFields, LinearThompsonSamplingAgent
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_schemas.policy.policy import Head


def build(setup: Setup) -> TrainableAgent:
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
        LinearThompsonSamplingAgent,
        alpha=scale,
        emits=InfoFields.PREDICTED_REWARDS_MEAN,
        head=lambda statistics: Head(kind="thompson", scale=scale * statistics.deviation()),
    )
