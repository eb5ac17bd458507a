"""Agents, each one file, built by name; TensorFlow is imported with the first."""

from __future__ import annotations

import importlib
from types import ModuleType

from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_schemas.application.agents import require_packages


def build_agent(setup: Setup) -> TrainableAgent:
    """The agent that the application names: `agents/<name>.py`, its `build(setup)`.

    Raises:
        MissingDependency: see `agent_module`.
    """
    if setup.compressor is not None:
        from bakehouse_learner.agents.common.compressed import CompressedAgent, inner_setup

        inner = build_agent(inner_setup(setup))
        return CompressedAgent(inner, setup.normaliser, setup.compressor)
    agent: TrainableAgent = agent_module(setup.application.agent.name).build(setup)
    return agent


def agent_module(name: str) -> ModuleType:
    """`agents/<name>.py`, imported with TensorFlow and, where the agent needs it, TF-Agents.

    Raises:
        MissingDependency: the agent needs TF-Agents, which is not installed.
    """
    require_packages(name)
    return importlib.import_module(f"bakehouse_learner.agents.{name}")
