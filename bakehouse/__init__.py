"""Bakehouse: reinforcement learning while the game is played.

The names that an application file needs; see the README for a page that uses them.
"""

from schemas.application import (
    Agent,
    Application,
    Bandit,
    Discrete,
    Episodic,
    EpsilonGreedy,
    Gate,
    Rollout,
    Training,
    hours,
    minutes,
    seconds,
)
from schemas.errors import ApplicationError, BakehouseError
from schemas.observation import Boolean, Categorical, Numeric, Vector
from schemas.reward import Reward, TimedOutcome
from schemas.segments import Segments
from schemas.world import BanditWorld, Context, Delivery, EpisodicWorld, Happening, Transition

__all__ = [
    "Agent",
    "Application",
    "ApplicationError",
    "BakehouseError",
    "Bandit",
    "BanditWorld",
    "Boolean",
    "Categorical",
    "Context",
    "Delivery",
    "Discrete",
    "Episodic",
    "EpisodicWorld",
    "EpsilonGreedy",
    "Gate",
    "Happening",
    "Numeric",
    "Reward",
    "Rollout",
    "Segments",
    "TimedOutcome",
    "Training",
    "Transition",
    "Vector",
    "hours",
    "minutes",
    "seconds",
]
