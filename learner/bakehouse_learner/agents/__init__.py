"""Agents, each one file, built by name; TensorFlow is imported with the first."""

from __future__ import annotations

import importlib

from bakehouse_learner.training.agent import Agent, Setup


def build_agent(setup: Setup) -> Agent:
    """The agent that the application names: `learner/agents/<name>.py`, its `build(setup)`."""
    if setup.compressor is not None:
        from bakehouse_learner.agents.common.compressed import CompressedAgent, inner_setup

        inner = build_agent(inner_setup(setup))
        return CompressedAgent(inner, setup.normaliser, setup.compressor)
    module = importlib.import_module(f"bakehouse_learner.agents.{setup.application.agent.name}")
    agent: Agent = module.build(setup)
    return agent
