"""Which agents are tried on an application, and the application with each of them."""

from __future__ import annotations

import argparse
from dataclasses import replace

from bakehouse_learner.offline.console import say
from bakehouse_schemas.application.agents import AGENTS, require_packages
from bakehouse_schemas.application.application import Agent, Application
from bakehouse_schemas.errors import ApplicationError, MissingDependency


def candidates_of(options: argparse.Namespace, application: Application) -> dict[str, Application]:
    """The application with each of the agents that were named; else with all that fit it.

    Raises:
        ApplicationError: an agent that was named does not fit, or none does.
    """
    if options.agents:
        names = dict.fromkeys(name.strip() for name in options.agents.split(",") if name.strip())
        return {name: with_agent(application, name) for name in names}
    kind, problem = application.actions.kind, application.problem.kind
    found = {}
    for name, agent in AGENTS.items():
        if kind in agent.actions and problem in agent.problems:
            try:
                require_packages(name)
                found[name] = with_agent(application, name)
            except (ApplicationError, MissingDependency) as error:
                # it cannot explore as this application does, or not be trained here
                say(f"{name} is left out: {error}")
    if not found:
        raise ApplicationError(f"no agent fits {application.name!r}; say which with --agents")
    return found


def with_agent(application: Application, name: str) -> Application:
    """The application with another agent at its own settings, online.

    Raises:
        ApplicationError: the agent does not fit, or does not explore as the application says.
    """
    agent = application.agent if application.agent.name == name else Agent(name)
    try:
        return replace(application, agent=agent, mode="online")
    except ApplicationError as error:
        raise ApplicationError(f"--agents {name}: {error}") from None
