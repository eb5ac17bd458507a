"""Advice about pages, on worlds of which the answer is known."""

from __future__ import annotations

import argparse
import json
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from bakehouse.reports.advise import show_advice
from bakehouse_learner.offline import advise
from bakehouse_learner.offline.advice.dependence import (
    Contexts,
    contrasts,
    explained,
    fitted,
    products,
    signs_test,
)
from bakehouse_learner.offline.advice.finding import Finding, by_urgency
from bakehouse_learner.offline.advice.reward import gain_of_context, log_loss
from bakehouse_learner.offline.advice.sample import Sample, of_history, of_world
from bakehouse_learner.offline.advice.sample_size import units_until
from bakehouse_learner.offline.history.history import read_history
from bakehouse_learner.statistics.confidence_sequence import boundary
from bakehouse_schemas.application.application import (
    Agent,
    Application,
    Bandit,
    EpsilonGreedy,
    Rollout,
)
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.errors import InvalidHistory
from bakehouse_schemas.worlds.world import Context
from tests.learner_fakes import GAME, Play
from tests.unit.test_simulation import Walkers
from tests.worlds import corridor, shelves, stage, vault

DECISIONS = 3_000
PAGE = replace(GAME, exploration=EpsilonGreedy(0.5), rollout=Rollout(holdout=0.1))


class SameForAll(Walkers):
    """Left wins more often, whoever they are."""

    def expected_reward(self, context: Context, action: str) -> float:
        return 0.7 if action == "left" else 0.3


class Noise(Walkers):
    """They win as they please."""

    def expected_reward(self, context: Context, action: str) -> float:
        return 0.5


class Wanderers(corridor.Burglars):
    """The next door does not depend on what they do, nor does what they earn later."""

    def transitions(self, state: Any, action: str) -> list[Any]:
        ways = super().transitions(state, "coin" if action == "coin" else corridor.OPENS[state])
        at = corridor.DOORS.index(str(state))
        to: Hashable = corridor.DOORS[at + 1] if at + 1 < len(corridor.DOORS) else None
        return [ways[0]._replace(next_state=to)]


def advice(sample: Sample) -> dict[str, dict[str, Any]]:
    """The first finding about each thing."""
    found: dict[str, dict[str, Any]] = {}
    for one in advise.findings(sample):
        found.setdefault(one["about"], one)
    json.dumps(found, allow_nan=False)
    return found


def played(world: Any, application: Application = PAGE, seed: int = 0) -> Sample:
    return of_world(application, world, decisions=DECISIONS, seed=seed)


@pytest.fixture(scope="module")
def walkers() -> dict[str, dict[str, Any]]:
    return advice(played(Walkers()))


def test_where_the_context_matters_that_is_said_and_what_it_is_worth(
    walkers: dict[str, dict[str, Any]],
) -> None:
    """The best by context wins 0.9 of the time, either action for everybody 0.5."""
    context = walkers["context"]
    assert context["says"].startswith("Which action is best depends on the context")
    assert context["evidence"]["p-value that the best action differs"] < 0.01
    off = abs(context["evidence"]["gain"] - 0.4)
    assert off < 4 * context["evidence"]["standard error of the gain"]
    assert walkers["reward"]["urgency"] == "know"
    evidence = walkers["reward"]["evidence"]
    assert evidence["R² by context and action"] > 0.3 > 0.05 > evidence["R² by the action"]
    assert evidence["log-loss by context and action"] < evidence["log-loss by the mean"] - 0.1
    assert walkers["sequence"]["says"].startswith("The players of this world have no memory")


def test_where_one_action_is_the_best_for_all_that_is_said() -> None:
    found = advice(played(SameForAll()))
    assert found["reward"]["urgency"] == "know"
    assert found["context"]["urgency"] == "soon"
    assert "'left' does for everybody" in found["context"]["says"]
    assert found["context"]["evidence"]["p-value that the best action differs"] > 0.01


def test_where_there_is_noise_alone_there_is_nothing_to_learn() -> None:
    found = advice(played(Noise()))
    assert found["reward"]["urgency"] == "now"
    assert "nothing to learn" in found["reward"]["says"]
    assert abs(found["context"]["evidence"]["gain"]) < 0.1


def test_a_sequential_game_that_is_played_as_a_bandit_is_found_out() -> None:
    page = replace(corridor.application, problem=Bandit(), agent=Agent("neural_greedy"))
    found = advice(played(corridor.world, page))["sequence"]
    assert found["urgency"] == "now" and "Episodic" in found["do"]
    evidence = found["evidence"]
    assert evidence["p-value of next context"] < 0.005
    with_action = evidence["R² of next context, by context and action"]
    assert with_action > evidence["R² of next context, by the context"] + 0.1
    kept = advice(played(corridor.world, corridor.application))["sequence"]
    assert kept["urgency"] == "know" and "Keep problem=Episodic" in kept["do"]


def test_episodes_in_which_nothing_depends_on_the_action_might_be_a_bandit() -> None:
    found = advice(played(Wanderers(), corridor.application))["sequence"]
    assert found["urgency"] == "soon" and "Bandit()" in found["do"]


@pytest.mark.parametrize(
    ("page", "unsaid"), [(vault, {}), (stage, {}), (shelves, {"reward", "coverage"})]
)
def test_of_numbers_parts_and_rankings_is_said_what_can_be(page: Any, unsaid: set[str]) -> None:
    found = advice(of_world(page.application, page.world, decisions=1_500, seed=0))
    assert "until seen" in found["patience"]["evidence"]
    for about in ("reward", "coverage"):
        assert ("cannot be said" in found[about]["says"]) == (about in unsaid)
    if not unsaid:
        assert "by an estimate of how actions were chosen" in found["context"]["says"]
    assert found["outcomes"]["urgency"] != "now"


def test_the_test_holds_its_level_however_badly_the_context_is_modelled() -> None:
    """Actions and outcomes both follow steps that no square can follow; nothing depends on A."""
    rejected = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.random((400, 1))
        chance = np.where((8 * x[:, 0]).astype(int) % 2 == 0, 0.9, 0.1)
        action = (rng.random(400) < chance).astype(np.int64)
        outcome = ((8 * x[:, 0]).astype(int) % 2 == 0) + 0.3 * rng.normal(size=400)
        propensity = np.where(action == 1, chance, 1 - chance)
        contexts = Contexts.of(x)
        apart = contrasts(action, propensity, np.ones((400, 2), bool))
        left = (outcome - fitted(contexts, outcome[:, None])[:, 0])[:, None]
        effects = products(products(apart, left), contexts.columns)
        rejected += signs_test(effects, rng).p < 0.05
    assert rejected <= 8  # of 60 at 5%: three expected, more than eight in 0.4% of cases


def test_a_contrast_has_mean_zero_in_every_context() -> None:
    """Two of three are eligible, drawn with 0.8 and 0.2: 0.8 c(0) + 0.2 c(1) = 0."""
    eligible = np.array([[True, True, False]] * 2)
    made = contrasts(np.array([0, 1]), np.array([0.8, 0.2]), eligible)
    np.testing.assert_allclose(made[0], [0.5 / 0.8, -0.5 / 0.8, 0.0])
    np.testing.assert_allclose(made[1], [-0.5 / 0.2, 0.5 / 0.2, 0.0])
    np.testing.assert_allclose(0.8 * made[0] + 0.2 * made[1], 0.0, atol=1e-12)


def test_what_is_foretold_counts_only_in_rows_that_were_not_seen() -> None:
    rng = np.random.default_rng(0)
    contexts = Contexts.of(rng.random((300, 3)))
    noise = rng.normal(size=(300, 1))
    assert explained(noise, fitted(contexts, noise)) < 0.0
    line = 2.0 * contexts.columns[:, 1:2] + 5.0
    assert explained(line, fitted(contexts, line)) > 0.99


def test_log_loss_of_what_was_certain_and_of_a_coin() -> None:
    earned = np.array([-1.0, 3.0])  # any two values
    assert log_loss(earned, np.array([1.0, 1.0])) == pytest.approx(np.log(2))
    assert log_loss(earned, earned) == pytest.approx(-np.log(1 - 1e-3))


def test_after_so_many_units_the_gates_interval_is_as_narrow_as_asked() -> None:
    n = units_until(0.1, sd=1.0, alpha=0.05)
    assert (boundary(int(n), 0.05) + 0.84) / np.sqrt(n) == pytest.approx(0.1, rel=1e-2)
    assert units_until(0.05, 1.0, 0.05) > 3.9 * n
    assert units_until(0.1, 2.0, 0.05) > 3.9 * n


def test_patience_is_counted_in_decisions_and_at_the_rate_of_the_log(tmp_path: Path) -> None:
    found = advice(of_history(logged(tmp_path, 2_000, decided_at=True)))["patience"]
    rate = found["evidence"]["decisions a day"]
    assert rate == pytest.approx(1_440, rel=1e-2)  # one a minute
    table = found["evidence"]["until seen"]
    for name in ("paired, doubly robust", "against the holdout"):
        one, ten = table[f"1%, {name}"], table[f"10%, {name}"]
        assert one["decisions"] > 50 * ten["decisions"]
        assert ten["days"] == pytest.approx(ten["decisions"] / rate, rel=1e-2)
    untimed = advice(of_history(logged(tmp_path, 2_000)))["patience"]
    assert untimed["evidence"]["decisions a day"] is None


def logged(folder: Path, rows: int, *, page: Application = PAGE, **how: Any) -> Any:
    """A log of walkers; see the tests for what may be wrong with it."""
    rng = np.random.default_rng(1)
    x = rng.random(rows)
    chance = np.full(rows, how.get("right", 0.5))
    chance[x < 0.25] = how.get("right_below", chance[0])
    right = rng.random(rows) < chance
    won = rng.random(rows) < np.where((x > 0.5) == right, 0.9, 0.1)
    columns: dict[str, Any] = {
        "x": x,
        "action": np.where(right, "right", "left").tolist(),
        "propensity": np.where(right, chance, 1 - chance),
        "won": won if how.get("heard", True) else [False] * rows,
    }
    if how.get("decided_at"):
        columns["decided_at"] = [1_800_000_000_000 + 60_000 * at for at in range(rows)]
    if "subjects" in how:
        columns["subject_id"] = [f"s{at % how['subjects']}" for at in range(rows)]
    pq.write_table(pa.table(columns), folder / "log.parquet")
    return read_history(page, folder / "log.parquet", most=rows, contexts=True)


def test_a_log_without_a_counted_outcome_is_urgent(tmp_path: Path) -> None:
    found = advise.findings(of_history(logged(tmp_path, 500, heard=False)))
    assert [one["about"] for one in found[:2]] == ["outcomes", "reward"]
    assert found[0]["urgency"] == "now" and "100% of the decisions" in found[0]["says"]
    assert "Every decision earned the same, 0" in found[1]["says"]


def test_an_action_that_is_hardly_tried_is_named(tmp_path: Path) -> None:
    found = advice(of_history(logged(tmp_path, 1_000, right=0.008)))["coverage"]
    assert found["urgency"] == "now" and "Hardly ever tried: right" in found["says"]
    assert found["evidence"]["tries"]["right"] < 30
    assert found["evidence"]["smallest propensity"]["right"] == pytest.approx(0.008)
    seldom = advice(of_history(logged(tmp_path, 1_000, right_below=0.001)))["coverage"]
    assert seldom["urgency"] == "soon" and seldom["evidence"]["hardly tried in"][0]["tries"] < 10
    assert seldom["evidence"]["hardly tried in"][0]["action"] == "right"
    often = advice(of_history(logged(tmp_path, 1_000)))["coverage"]
    assert often["urgency"] == "know"


def test_a_feature_that_never_varies_or_is_missing_is_named(tmp_path: Path) -> None:
    more = [Numeric("x", low=0, high=1), Numeric("level", low=0, high=9, default=1.0)]
    page = replace(PAGE, observation=more)
    found = advice(of_history(logged(tmp_path, 500, page=page)))["features"]
    assert found["urgency"] == "soon"
    assert found["says"] == "Features never varying: level; missing: level in 100%."


def test_decisions_of_the_same_subject_follow_each_other(tmp_path: Path) -> None:
    sample = of_history(logged(tmp_path, 600, subjects=20))
    now, after = sample.pairs()
    assert len(now) == 580
    assert (after - now == 20).all()
    found = advice(sample)["sequence"]
    assert found["says"].startswith("A bandit will do")
    alone = advice(of_history(logged(tmp_path, 600)))["sequence"]
    assert "cannot be said" in alone["says"] and "previous_decision_id" in alone["do"]


def test_the_urgent_comes_first_and_the_rest_in_its_order() -> None:
    several = [Finding(about, urgency, "", {}, "") for about, urgency in (
        ("a", "know"), ("b", "now"), ("c", "soon"), ("d", "now"))]  # type: ignore[arg-type] # fmt: skip
    assert [finding.about for finding in by_urgency(several)] == ["b", "d", "c", "a"]


def test_a_gain_is_not_graded_by_the_rows_that_chose() -> None:
    """Of noise, the best by context is worth no more than anything else."""
    gains = []
    for seed in range(6):
        sample = of_world(PAGE, Noise(), decisions=600, seed=seed)
        gains.append(gain_of_context(sample, sample.drawn))
    standard_error = np.sqrt(np.mean([gain.standard_error**2 for gain in gains]) / 6)
    assert abs(np.mean([gain.mean for gain in gains])) < 3 * standard_error


def test_a_replay_table_is_read_with_whose_decisions_they_were(tmp_path: Path) -> None:
    play = Play(tmp_path)
    for _ in range(9):
        play.second(None)
    history = read_history(GAME, tmp_path, contexts=True)
    whose = {
        row["decision_id"]: row["subject_id"]
        for row in DeltaTable(str(tmp_path / "tables" / "replay")).to_pyarrow_table().to_pylist()
        if row["subject_id"] is not None
    }
    assert dict(history.whose) == whose and len(whose) > 0
    sample = of_history(history)
    assert sample.ring.matured[sample.slots].all() and len(sample.slots) < len(sample.everything)
    assert sample.ring.reward[sample.slots].mean() == pytest.approx(0.5, abs=0.08)
    found = advice(sample)
    assert found["context"]["says"].startswith("Which action is best depends on the context")
    rate = found["patience"]["evidence"]["decisions a day"]
    assert rate == pytest.approx(60 * 86_400, rel=0.3)


def test_without_a_log_the_world_is_asked_and_all_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BAKEHOUSE_HOME", str(tmp_path / "home"))
    ref = "applications/level_difficulty.py"
    asked = argparse.Namespace(ref=ref, source=None, decisions=1_500)
    answer = advise.advise(asked)
    show_advice(json.loads(json.dumps(answer, allow_nan=False)))
    shown = capsys.readouterr().out
    assert "1,500 decisions of its world" in shown and "→" in shown
    assert "smallest propensity: easy 0.1667" in shown
    assert max(map(len, shown.splitlines())) < 160  # a table of evidence has a line a row
    assert "\n         10%, paired, doubly robust: decisions " in shown
    with pytest.raises(InvalidHistory, match="there is nothing there"):
        advise.advise(argparse.Namespace(ref=ref, source="replay", decisions=1_500))
