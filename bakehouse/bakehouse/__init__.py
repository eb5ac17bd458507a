"""Bakehouse: reinforcement learning while the game is played.

The names that an application file needs; see the README for a page that uses them.
"""

from bakehouse_schemas.application.application import (
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
from bakehouse_schemas.application.hydration import FromFunction, FromRedis, FromTable
from bakehouse_schemas.application.observation import Boolean, Categorical, Numeric, Vector
from bakehouse_schemas.application.reward import Reward, TimedOutcome
from bakehouse_schemas.application.segments import Segments
from bakehouse_schemas.errors import ApplicationError, BakehouseError
from bakehouse_schemas.worlds.fitted_world import FittedWorld
from bakehouse_schemas.worlds.world import (
    BanditWorld,
    Context,
    Delivery,
    EpisodicWorld,
    Happening,
    Transition,
)

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
