"""Worlds in which agents are examined: small, quick, and unforgiving of what is too simple.

Each is a page like those in `applications/`: an `application` and a `world`. `WORLDS` says which
agent sits which exam; an agent that is not named there sits the first that fits its kind.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import Any

from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.application.application import Agent, Application
from bakehouse_schemas.worlds.world import World


@dataclass(frozen=True)
class Exam:
    """A world and the budget that an agent has in it.

    Args:
        module: of this package.
        decisions: to be made, exploration included.
        agents: who sits this one, although others would fit.
    """

    module: str
    decisions: int
    rate_per_s: float = 200.0
    agents: frozenset[str] = frozenset()

    @property
    def application(self) -> Application:
        found: Application = self._page("application")
        return found

    @property
    def world(self) -> World:
        found: World = self._page("world")
        return found

    def _page(self, name: str) -> Any:
        return getattr(importlib.import_module(f"tests.worlds.{self.module}"), name)

    def application_for(self, agent: str, seed: int = 0) -> Application:
        """The application with this agent, at the agent's own settings."""
        application = self.application
        if application.agent.name != agent:
            application = replace(application, agent=Agent(agent))
        return replace(application, training=replace(application.training, seed=seed))


# In order: an agent that is named nowhere sits the last one that fits its kind.
WORLDS = (
    Exam("tastes", decisions=8_000, agents=frozenset({"lin_ts", "lin_ucb"})),
    Exam("footsteps", decisions=8_000, agents=frozenset({"bc"})),
    Exam("kiln", decisions=8_000, agents=frozenset({"td3"})),
    Exam("kites", decisions=12_000, agents=frozenset({"sac", "cql"})),
    Exam("crossed", decisions=8_000),
    Exam("corridor", decisions=5_000),
    Exam("shelves", decisions=4_000),
    Exam("vault", decisions=6_000, agents=frozenset({"reinforce"})),
    Exam("stage", decisions=12_000, agents=frozenset({"ppo"})),
)


def exam_of(agent: str) -> Exam:
    """The exam of an agent of the catalogue.

    Raises:
        LookupError: no world has its kind of actions and problem yet.
    """
    named = [exam for exam in WORLDS if agent in exam.agents]
    kind = AGENTS[agent]
    fitting = [
        exam
        for exam in WORLDS
        if not exam.agents
        and exam.application.actions.kind in kind.actions
        and exam.application.problem.kind in kind.problems
    ]
    if not named + fitting:
        raise LookupError(
            f"no world for the agent {agent!r} ({', '.join(sorted(kind.actions))} actions, "
            f"{' or '.join(sorted(kind.problems))}): add a page to tests/worlds and name it in "
            "WORLDS"
        )
    return (named or fitting[::-1])[0]
