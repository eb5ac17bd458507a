"""Which agent learns best: by the world, by a history, and as a picture."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bakehouse.reports.compare import show_comparison
from bakehouse_learner.offline import compare
from bakehouse_learner.offline.candidates import candidates_of, with_agent
from bakehouse_learner.offline.plots.learning_curves import COLOURS, draw
from bakehouse_learner.offline.simulation.simulation import Point, Result
from bakehouse_schemas.application.application import Agent, EpsilonGreedy, Gate, Thompson
from bakehouse_schemas.errors import ApplicationError
from tests.contract.test_warm_start import log_of_a_game
from tests.learner_fakes import GAME, LinearAgent
from tests.unit.test_simulation import Walkers

GAME_TO_COMPARE = replace(
    GAME, exploration=EpsilonGreedy(0.2, start=0.5, decay=500), gate=Gate(margin=0.2)
)


def asked(**options: Any) -> argparse.Namespace:
    given = {"agents": "", "decisions": 1_500, "seeds": 2, "rate": 100.0, "source": None}
    return argparse.Namespace(**given | options)


def compared(**options: Any) -> dict[str, Any]:
    names = ("neural_greedy", "lin_ucb")
    candidates = {name: with_agent(GAME_TO_COMPARE, name) for name in names}
    found = compare.in_world(candidates, Walkers(), LinearAgent, asked(**options))
    described = {"application": "game", "by": "world", "plot": None}
    return described | {"decisions": 1_500, "seeds": options.get("seeds", 2)} | found


@pytest.fixture(scope="module")
def comparison() -> dict[str, Any]:
    return compared()


def test_all_agents_meet_the_same_players(comparison: dict[str, Any]) -> None:
    """Here both names stand for one and the same agent, so nothing else can differ."""
    first, second = comparison["agents"]
    assert {first["agent"], second["agent"]} == {"neural_greedy", "lin_ucb"}
    for what in ("share", "decisions_until", "left_version_0", "curve"):
        assert first[what] == second[what]
    least, most = first["share"]["least"], first["share"]["most"]
    assert least < most
    assert first["share"]["by_seed"] in ([least, most], [most, least])
    assert first["minibatches_per_s"] > 0 and first["wall_s"] > 0
    assert -0.3 < comparison["baseline_share"] < 0.3


def test_a_comparison_is_json_and_is_shown_as_a_table(
    comparison: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    json.dumps(comparison, allow_nan=False)
    show_comparison(comparison)
    shown = capsys.readouterr().out
    assert "1,500 decisions each, 2 seeds" in shown
    assert "lin_ucb" in shown and "until 0.85" in shown


def result(*points: tuple[int, float | None], left: int | None = 100) -> Result:
    told = [Point(decisions, decisions / 100, share, 1) for decisions, share in points]
    return Result(points=told, decisions=points[-1][0], left_version_0=left)


def test_how_soon_an_agent_is_good_is_what_most_seeds_say() -> None:
    quick, slow = result((100, 0.2), (200, 0.9), (300, 0.8)), result((100, 0.2), (300, 0.86))
    never = result((100, 0.1), (300, 0.5))
    assert quick.decisions_until(0.85) == 200 and never.decisions_until(0.85) is None
    marks = compare.marks("lin_ucb", [quick, slow, never])
    assert marks["decisions_until"]["by_seed"] == [200, 300, None]
    assert marks["decisions_until"]["median"] == 300  # of 200, 300 and never
    assert compare.marks("lin_ucb", [quick, never])["decisions_until"]["median"] is None
    assert compare.marks("lin_ucb", [quick, quick, slow])["decisions_until"]["median"] == 200
    assert marks["minibatches_per_s"] is None


def test_curves_of_seeds_are_laid_over_one_another() -> None:
    curve = compare.curve(
        [result((0, 0.0), (400, 0.8)), result((100, None), (200, 0.4), (400, 1.0))]
    )
    assert (curve[0]["decisions"], curve[-1]["decisions"]) == (200, 400)
    assert curve[0] == {"decisions": 200, "median": 0.4, "least": 0.4, "most": 0.4}
    assert curve[-1]["median"] == pytest.approx(0.9)
    assert (curve[-1]["least"], curve[-1]["most"]) == (0.8, 1.0)


def test_the_picture_names_every_agent_and_each_looks_different(
    comparison: dict[str, Any], tmp_path: Path
) -> None:
    draw(comparison, tmp_path / "new" / "curves.png")
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG")
    draw(comparison, tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text()
    assert "neural_greedy" in drawn and "lin_ucb" in drawn and "rules" in drawn
    assert COLOURS[0].lower() in drawn and COLOURS[1].lower() in drawn


def test_without_names_all_agents_that_fit_are_compared(
    capsys: pytest.CaptureFixture[str],
) -> None:
    everybody = candidates_of(asked(), GAME)
    assert set(everybody) >= {"neural_greedy", "lin_ucb", "lin_ts", "dqn"}
    assert {made.agent.name for made in everybody.values()} == set(everybody)
    assert list(candidates_of(asked(agents="dqn, lin_ucb,dqn"), GAME)) == ["dqn", "lin_ucb"]
    believing = replace(GAME, agent=Agent("lin_ts"), exploration=Thompson())
    assert "lin_ts" in candidates_of(asked(), believing)
    assert "neural_greedy is left out" in capsys.readouterr().err
    with pytest.raises(ApplicationError, match="--agents neural_greedy: "):
        candidates_of(asked(agents="neural_greedy"), believing)
    with pytest.raises(ApplicationError, match=r"--agents nobody: .*there is no such agent"):
        candidates_of(asked(agents="nobody"), GAME)


def test_without_a_world_agents_are_judged_by_a_history(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidates = {name: with_agent(GAME, name) for name in ("neural_greedy", "lin_ucb")}
    source = log_of_a_game(tmp_path)
    found = compare.on_history(candidates, asked(source=str(source)), lambda: LinearAgent)
    for one in found["agents"]:
        assert one["against_baseline"]["lower"] > 0.1  # 0.75 with exploration, and 0.5
        assert one["minibatches_per_s"] > 0
    answer = {"application": "game", "by": "history", "plot": None} | found
    json.dumps(answer, allow_nan=False)
    show_comparison(answer)
    shown = capsys.readouterr().out
    assert "from the older 80%" in shown and "a second apart" in shown
    draw(answer, tmp_path / "history.svg")
    assert "neural_greedy" in (tmp_path / "history.svg").read_text()
