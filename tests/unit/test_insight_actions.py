"""What is told of actions, of every kind; who counts; and how likely exploring was."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakehouse_learner.insight.actions import ActionFigures
from bakehouse_learner.insight.leaderboard import Leaderboard
from bakehouse_learner.insight.taken import Taken, ineligible, uniform_propensity
from bakehouse_learner.replay.origin import CANARY, HOLDOUT, UNKNOWN, Origins, subject_hash
from bakehouse_schemas.decisions.cohort import subject_share
from bakehouse_schemas.execution.choice import chance_of_exploring
from bakehouse_schemas.execution.propensity import execute
from tests.shapes import SPACES, Case, cases, shaped
from tests.unit.test_decide import make_application


def decisions(kind: str, rows: list[list[float]], **changes: Any) -> Taken:
    n, shape = len(rows), SPACES[kind].shape
    columns: dict[str, Any] = {
        "received_at_ms": np.arange(n),
        "subject": np.arange(n, dtype=np.uint64),
        "version": np.ones(n, np.int64),
        "by_policy": np.ones(n, bool),
        "holdout": np.zeros(n, bool),
        "support": np.ones(n, bool),
        "reward": np.ones(n),
        "row": np.array(rows, dtype=float),
        "baseline": np.full((n, len(rows[0])), -1.0),
        "eligible": np.ones((n, shape.choices), bool),
        "propensity": np.full(n, 0.5),
        "factors": np.zeros((n, 0)),
    }
    return Taken(**columns | changes)


def test_a_raw_mean_misleads_and_weights_put_it_right() -> None:
    """Half of the contexts pay 1 whatever is done, half 0, and the policy does `good` in the
    first kind nine times of ten: raw means say 0.9 against 0.1, both are worth 0.5."""
    board = Leaderboard(["good", "bad"], 0.05)
    choice = np.array([0] * 90 + [1] * 10 + [0] * 10 + [1] * 90)
    reward = np.array([1.0] * 100 + [0.0] * 100)
    propensity = np.array([0.9] * 90 + [0.1] * 10 + [0.1] * 10 + [0.9] * 90)
    board.add(choice, reward, propensity, np.ones(200, bool))
    rows = {row["action"]: row for row in board.rows()}
    assert {name: row["raw_mean"] for name, row in rows.items()} == {"good": 0.9, "bad": 0.1}
    for row in rows.values():
        assert row["mean"] == pytest.approx(0.5)
        assert row["lower"] < 0.5 < row["upper"]
        assert (row["n"], row["share"]) == (100, 0.5)
        # 90 weights of 10/9 and 10 of 10: (100 + 100)² / (90 · (10/9)² + 10 · 100)
        assert row["effective_sample"] == pytest.approx(200**2 / (1_000 / 9 + 1_000))


def test_a_board_puts_the_best_first_and_what_was_never_done_last() -> None:
    board = Leaderboard(["never", "poor", "rich"], 0.05)
    board.add(np.array([1, 2]), np.array([1.0, 3.0]), np.array([0.5, 0.5]), np.ones(2, bool))
    board.add(np.array([1]), np.array([9.0]), np.array([1.0]), np.zeros(1, bool))  # no support
    rows = board.rows()
    assert [row["action"] for row in rows] == ["rich", "poor", "never"]
    assert (rows[1]["n"], rows[1]["raw_mean"], rows[1]["mean"]) == (2, 5.0, 1.0)
    assert (rows[2]["n"], rows[2]["mean"], rows[2]["raw_mean"]) == (0, None, None)
    again = Leaderboard(["never", "poor", "rich"], 0.05)
    again.restore(board.state())
    assert again.rows() == rows


def test_of_labels_there_is_a_board_and_shares_by_version() -> None:
    figures = ActionFigures(make_application(), 0.05)
    taken = decisions("discrete", [[0.0], [2.0], [2.0]], version=np.array([0, 5, 5]))
    taken = taken._replace(by_policy=np.array([True, True, False]))
    figures.add(taken)
    told = figures.figures()
    assert told["kind"] == "discrete"
    assert {row["action"]: row["n"] for row in told["leaderboard"]} == {
        "easy": 1, "normal": 0, "hard": 1
    }  # fmt: skip
    assert told["by_version"] == [
        {"from": 0, "to": 0, "n": 1, "shares": {"easy": 1.0}},
        {"from": 5, "to": 5, "n": 1, "shares": {"hard": 1.0}},
    ]
    assert (told["numbers"], told["parts"]) == ([], [])


def test_each_part_is_weighed_by_its_own_propensity() -> None:
    """Parts are drawn one by one: `story` 0.2 of the time, `on` 0.5."""
    figures = ActionFigures(shaped("parts"), 0.05)
    rows = [[0.0, 0.0, 1.0], [1.0, 1.0, 2.0]]
    factors = np.array([[0.2, 0.5], [0.8, 0.5]])
    reward = np.array([1.0, 3.0])
    figures.add(decisions("parts", rows, factors=factors, reward=reward))
    told = figures.figures()
    assert told["kind"] == "parts"
    assert [(part["name"], part["kind"]) for part in told["parts"]] == [
        ("mode", "discrete"), ("speed", "continuous"), ("help", "discrete")
    ]  # fmt: skip
    mode, speed, aid = told["parts"]
    assert {row["action"]: row["mean"] for row in mode["leaderboard"]} == {
        "arcade": 3.0, "story": 1.0, "duel": None
    }  # fmt: skip
    assert [row["action"] for row in aid["leaderboard"]] == ["off", "on"]
    assert (speed["low"], speed["high"], sum(speed["policy"])) == (0.5, 2.0, 2)
    assert told["by_version"][0]["shares"] == {
        "mode=story": 0.5, "mode=arcade": 0.5, "help=on": 0.5, "help=off": 0.5
    }  # fmt: skip
    again = ActionFigures(shaped("parts"), 0.05)
    again.restore(figures.state())
    assert again.figures() == told


def test_of_numbers_there_is_a_histogram_each_the_holdouts_apart() -> None:
    figures = ActionFigures(shaped("continuous"), 0.05)
    by_policy = np.array([True, False])
    figures.add(
        decisions("continuous", [[0.0, 15.0], [1.0, -5.0]], by_policy=by_policy, holdout=~by_policy)
    )
    told = figures.figures()
    assert [(one["name"], one["low"], one["high"]) for one in told["numbers"]] == [
        ("number 1", 0.0, 1.0), ("number 2", -5.0, 15.0)
    ]  # fmt: skip
    assert (told["numbers"][0]["policy"][0], told["numbers"][0]["holdout"][31]) == (1, 1)
    assert (told["numbers"][1]["policy"][31], told["numbers"][1]["holdout"][0]) == (1, 1)
    assert (told["leaderboard"], told["by_version"]) == ([], [])


def test_of_rankings_it_is_told_how_often_a_place_is_as_the_baseline_would_fill_it() -> None:
    figures = ActionFigures(shaped("ranking"), 0.05)
    rows = [[0.0, 1.0, 2.0], [0.0, 2.0, -1.0]]
    figures.add(decisions("ranking", rows, baseline=np.array([[0.0, 1.0, 2.0], [0.0, 1.0, -1.0]])))
    told = figures.figures()
    assert told["leaderboard"] == []
    assert told["by_version"][0]["shares"] == {
        "place 1 as the baseline": 1.0,
        "place 2 as the baseline": 0.5,
        "place 3 as the baseline": 0.5,
    }


def test_uniform_is_uniform_over_what_could_be_chosen() -> None:
    labels = uniform_propensity(SPACES["discrete"].shape, np.array([[True, True, False, True]]))
    assert labels.tolist() == [pytest.approx(1 / 3)]
    parts = np.ones((1, 5), bool)
    parts[0, 0] = False  # two of three modes, two of help, speeds over 1.5
    assert uniform_propensity(SPACES["parts"].shape, parts).tolist() == [
        pytest.approx(1 / (2 * 2 * 1.5))
    ]
    three = np.array([[True, True, True, False, False]])
    assert uniform_propensity(SPACES["ranking"].shape, three).tolist() == [pytest.approx(1 / 6)]


def test_a_choice_that_was_not_eligible_is_found() -> None:
    mask = np.array([[True, False, True, True]] * 2)
    assert ineligible(SPACES["discrete"].shape, np.array([[0.0], [1.0]]), mask).tolist() == [
        False, True
    ]  # fmt: skip
    modes = np.array([[True, False, True, True, True]])
    assert ineligible(SPACES["parts"].shape, np.array([[1.0, 0.0, 1.0]]), modes).tolist() == [True]
    places = np.array([[True, True, False, True, True]])
    found = ineligible(SPACES["ranking"].shape, np.array([[0.0, 2.0, -1.0]]), places)
    assert found.tolist() == [True]


@pytest.mark.parametrize("kind", SPACES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_exploring_is_as_likely_as_it_is_frequent(kind: str, data: st.DataObject) -> None:
    case: Case = data.draw(cases(kind))
    chance = chance_of_exploring(case.shape, case.own, case.eligible, case.exploration)
    draws = np.random.default_rng(0).random(600)
    explored = [
        execute(case.shape, case.own, case.eligible, case.exploration, draw).explored
        for draw in draws.tolist()
    ]
    # six standard deviations of 600 draws
    assert np.mean(explored) == pytest.approx(chance, abs=0.0025 + 6 * 0.5 / 600**0.5)


def row(**changes: Any) -> dict[str, Any]:
    given_: dict[str, Any] = {
        "subject_id": "simulated-7", "cohort": "canary", "mode": "online", "explored": True,
        "action_probabilities": json.dumps({"a": 0.7, "b": 0.2, "c": 0.1}), "exploration": None,
    }  # fmt: skip
    return given_ | changes


def test_an_origin_says_for_whom_by_whom_and_how_likely_exploring_was() -> None:
    origins, mask = Origins(SPACES["discrete"].shape), np.ones(4, bool)
    found = origins.of(row(), None, mask)
    assert (found.simulated, found.cohort, found.online, found.explored) == (
        True,
        CANARY,
        True,
        True,
    )
    assert found.chance == pytest.approx(0.3)
    assert found.subject == subject_hash("simulated-7")
    held = origins.of(row(cohort="holdout", subject_id="anna", mode="apprentice"), None, mask)
    assert (held.simulated, held.cohort, held.online) == (False, HOLDOUT, False)
    assert np.isnan(held.chance)
    assert origins.of(row(action_probabilities="{torn"), None, mask) == UNKNOWN
    assert origins.of(row(subject_id=None), None, mask).subject == 0


def test_a_subjects_bits_have_nothing_to_do_with_its_place_in_a_rollout() -> None:
    names = [f"player-{n}" for n in range(4_000)]
    bits = np.array([subject_hash(name) for name in names]) / 2.0**64
    places = np.array([subject_share("game", name) for name in names])
    assert abs(np.corrcoef(bits, places)[0, 1]) < 0.06
    assert np.mean(places[bits < 0.125]) == pytest.approx(0.5, abs=0.06)
