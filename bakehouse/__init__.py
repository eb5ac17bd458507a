"""Bakehouse: reinforcement learning while the game is played.

The names that an application file needs; see the README for a page that uses them.
"""

from schemas.application import (
    Agent,
    AgentsOwn,
    Application,
    Bandit,
    Compression,
    Continuous,
    Discrete,
    Episodic,
    EpsilonGreedy,
    Gate,
    Gaussian,
    Guardrail,
    Parts,
    Ranking,
    Rollout,
    Softmax,
    Thompson,
    Training,
    hours,
    minutes,
    seconds,
)
from schemas.errors import ApplicationError, BakehouseError
from schemas.fitted_world import FittedWorld
from schemas.hydration import FromFunction, FromRedis, FromTable
from schemas.observation import Boolean, Categorical, Numeric, Vector
from schemas.reward import Reward, TimedOutcome
from schemas.segments import Segments
from schemas.world import BanditWorld, Context, Delivery, EpisodicWorld, Happening, Transition

__all__ = [
    "Agent",
    "AgentsOwn",
    "Application",
    "ApplicationError",
    "BakehouseError",
    "Bandit",
    "BanditWorld",
    "Boolean",
    "Categorical",
    "Compression",
    "Context",
    "Continuous",
    "Delivery",
    "Discrete",
    "Episodic",
    "EpisodicWorld",
    "EpsilonGreedy",
    "FittedWorld",
    "FromFunction",
    "FromRedis",
    "FromTable",
    "Gate",
    "Gaussian",
    "Guardrail",
    "Happening",
    "Numeric",
    "Parts",
    "Ranking",
    "Reward",
    "Rollout",
    "Segments",
    "Softmax",
    "Thompson",
    "TimedOutcome",
    "Training",
    "Transition",
    "Vector",
    "hours",
    "minutes",
    "seconds",
]
