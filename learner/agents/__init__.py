"""Agents, each one file, built by name; TensorFlow is imported with the first."""

from __future__ import annotations

import importlib

from learner.agents.adapter import Agent, Setup


def build_agent(setup: Setup) -> Agent:
    """The agent that the application names: `learner/agents/<name>.py`, its `build(setup)`."""
    if setup.compressor is not None:
        from learner.agents.compressed import CompressedAgent, inner_setup

        inner = build_agent(inner_setup(setup))
        return CompressedAgent(inner, setup.normaliser, setup.compressor)
    module = importlib.import_module(f"learner.agents.{setup.application.agent.name}")
    agent: Agent = module.build(setup)
    return agent
