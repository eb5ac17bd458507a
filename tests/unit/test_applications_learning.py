"""What each example learns with its own agent and settings, through production's learner and gate.

A minute or so: run it with `pytest -m long`.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bakehouse_schemas.application.application import Agent
from bakehouse_schemas.loading import load_application

FOLDER = Path(__file__).parents[2] / "applications"
BUDGETS = {  # page: decisions, and the share reached within them
    "boss_health": (16_000, 0.85),
    "message_hour": (25_000, 0.85),
    "mode_and_level": (25_000, 0.85),
    "shop_shelf": (20_000, 0.85),
}


@pytest.fixture(scope="module")
def build() -> Any:
    from bakehouse_learner.agents import build_agent  # TensorFlow

    return build_agent


@pytest.mark.long
@pytest.mark.parametrize(("page", "decisions", "least"), [(p, *b) for p, b in BUDGETS.items()])
def test_a_page_is_learned_within_its_budget(
    build: Any, page: str, decisions: int, least: float
) -> None:
    from bakehouse_learner.offline.simulation.simulation import simulate

    loaded = load_application(str(FOLDER / f"{page}.py"))
    assert loaded.world is not None
    result = simulate(
        loaded.application, loaded.world, build, decisions=decisions, rate_per_s=200.0, seed=0
    )
    assert result.share is not None
    assert result.share >= least
    assert not [turn for turn in result.turns if turn.what == "rolled back"]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_other_agent_that_boss_health_names_learns_it_too(build: Any) -> None:
    from bakehouse_learner.offline.simulation.simulation import simulate

    loaded = load_application(str(FOLDER / "boss_health.py"))
    assert loaded.world is not None
    application = replace(loaded.application, agent=Agent("sac"))
    result = simulate(application, loaded.world, build, decisions=16_000, rate_per_s=200.0, seed=0)
    assert result.share is not None
    assert result.share >= 0.85
