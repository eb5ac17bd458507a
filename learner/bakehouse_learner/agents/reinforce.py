"""`reinforce`: the policy gradient, with the value of a context as baseline."""

from __future__ import annotations

from typing import Any

from bakehouse_learner.agents.common.actor_critic import ActorCritic, Taken, importance
from bakehouse_learner.training.agent import Setup, TrainableAgent


def build(setup: Setup) -> TrainableAgent:
    """See `weighted`."""
    return ActorCritic(setup, weighted)


def weighted(taken: Taken) -> Any:
    """`−(π / p_logged) · advantage · log π` (Williams 1992), the weight without gradients. `[B]`"""
    return -importance(taken.log_ratio) * taken.advantage * taken.log_ratio
