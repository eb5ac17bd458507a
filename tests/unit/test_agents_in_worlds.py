"""The long exam: every agent learns the world that was made for its kind, from the first decision.

`pytest -m long tests/unit/test_agents_in_worlds.py -k dqn`; `tests.bench agents` measures the same
over several seeds.
"""

from __future__ import annotations

import pytest

from bakehouse_learner.agents import build_agent
from bakehouse_learner.offline.simulation.simulation import simulate
from bakehouse_schemas.application.agents import AGENTS
from tests.worlds import exam_of

LEAST = 0.85


@pytest.mark.long
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("name", sorted(AGENTS))
def test_an_agent_learns_its_world_within_its_budget_of_decisions(name: str) -> None:
    exam = exam_of(name)
    result = simulate(
        exam.application_for(name),
        exam.world,
        build_agent,
        decisions=exam.decisions,
        rate_per_s=exam.rate_per_s,
    )
    assert result.left_version_0 is not None, "the gate let no version of it answer"
    assert result.share is not None
    assert result.share >= LEAST, f"{name} in {exam.module}: {result.share:.3f}"
