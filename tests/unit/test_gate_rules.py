import json
import math

import numpy as np
import pytest

from bakehouse_learner.gate.report import Evidence, GateReport
from bakehouse_learner.gate.rules import action_shift, decide, score_limit
from bakehouse_learner.statistics.confidence_sequence import Interval
from bakehouse_schemas.application.application import Gate

UNKNOWN = Interval(0.0, -math.inf, math.inf, 0)


def _ask(
    running: Interval = UNKNOWN,
    *,
    leaving: Interval | None = None,
    current: int = 0,
    anchor: int = 0,
    losses: dict[str, float] | None = None,
    scores: np.ndarray | None = None,
    shift: float = 0.0,
    gate: Gate | None = None,
) -> GateReport:
    return decide(
        gate or Gate(margin=0.1),
        candidate=current + 1,
        current=current,
        anchor=anchor,
        losses=losses or {},
        golden_scores=np.ones((4, 3)) if scores is None else scores,
        largest_score=10.0,
        shift=shift,
        evidence=Evidence(running, scale=2.0, effective_sample=70.0, leaving=leaving),
    )


def test_it_waits_at_version_0_until_there_are_bounds():
    report = _ask()
    assert not report.publish
    assert "too few" in report.reason
    assert report.rollback_to is None


def test_it_leaves_version_0_when_the_candidate_is_not_worse_by_the_margin():
    # margin 0.1 of a standard deviation of 2: −0.2
    assert not _ask(Interval(0.1, -0.21, 0.4, 900)).publish
    report = _ask(Interval(0.1, -0.19, 0.4, 900))
    assert report.publish
    assert report.leaves_version_0
    assert not report.new_anchor


def test_a_candidate_shown_to_be_worse_stays_behind_even_within_the_margin():
    report = _ask(Interval(-0.1, -0.15, -0.05, 90_000))
    assert not report.publish
    assert not report.freeze
    assert "shown to be worse" in report.reason


def test_a_candidate_shown_to_be_better_leaves_and_becomes_the_anchor():
    report = _ask(Interval(0.5, 0.1, 0.9, 900))
    assert report.leaves_version_0
    assert report.new_anchor


def test_after_version_0_candidates_pass_without_bounds():
    report = _ask(UNKNOWN, current=7, anchor=3)
    assert report.publish
    assert not report.leaves_version_0
    assert not report.new_anchor


def test_an_upper_bound_below_0_rolls_back_to_the_anchor_and_freezes():
    report = _ask(Interval(-0.3, -0.5, -0.1, 4_000), current=7, anchor=3)
    assert not report.publish
    assert report.rollback_to == 3
    assert report.freeze
    assert "version 3" in report.reason
    assert "until someone looks" in report.reason


def test_an_unsound_candidate_does_not_hide_that_the_current_version_is_worse():
    report = _ask(
        Interval(-0.3, -0.5, -0.1, 4_000), current=7, anchor=3, scores=np.full((1, 3), np.nan)
    )
    assert report.rollback_to == 3


def test_an_anchor_that_answers_is_not_rolled_back_to_itself():
    report = _ask(Interval(-0.3, -0.5, -0.1, 4_000), current=3, anchor=3)
    assert not report.publish
    assert report.rollback_to is None
    assert report.freeze


@pytest.mark.parametrize("current", [0, 7])
@pytest.mark.parametrize(
    ("scores", "shift", "rule"),
    [
        (np.array([[1.0, np.nan, 0.0]]), 0.0, "finite share of golden scores is 0.6667"),
        (np.zeros((0, 3)), 0.0, "finite share"),
        (np.array([[1.0, -11.0, 0.0]]), 0.0, "largest golden score is 11, expected at most 10"),
        (np.ones((1, 3)), 0.31, "action shift is 0.31, expected at most 0.3"),
    ],
)
def test_an_unsound_candidate_is_refused_with_rule_number_and_threshold(
    scores, shift, rule, current
):
    report = _ask(
        Interval(0.5, 0.1, 0.9, 900),
        current=current,
        scores=scores,
        shift=shift,
        gate=Gate(action_shift=0.3),
    )
    assert not report.publish
    assert not report.new_anchor
    assert rule in report.reason


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("current", [0, 7])
def test_a_candidate_of_a_training_whose_loss_is_not_finite_is_refused(loss, current):
    report = _ask(
        Interval(0.5, 0.1, 0.9, 900), current=current, losses={"loss": loss, "gradient_norm": 1.0}
    )
    assert not report.publish
    assert not report.new_anchor
    assert report.reason == (
        f"refused: finite share of losses is 0.5, expected at least 1; version {current} goes on "
        "answering"
    )
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["rules"][0]["number"] == 0.5


def test_an_episodic_candidate_leaves_by_its_estimate_and_is_watched_by_its_returns():
    good = Interval(1.0, 0.2, 1.8, 300)
    assert _ask(UNKNOWN, leaving=good).leaves_version_0
    assert not _ask(UNKNOWN, leaving=good).new_anchor
    worse = Interval(-1.0, -1.5, -0.5, 300)
    assert _ask(worse, leaving=good, current=2).rollback_to == 0


def test_a_report_is_json_with_every_rule_number_and_threshold():
    report = json.loads(json.dumps(_ask(scores=np.full((1, 3), np.inf)).as_dict(), allow_nan=False))
    assert {rule["name"] for rule in report["rules"]} >= {"action shift", "largest golden score"}
    assert all({"number", "threshold", "passed"} <= set(rule) for rule in report["rules"])
    assert report["evidence"]["lower"] is None
    assert report["evidence"]["effective_sample"] == 70.0


def test_action_shift_is_the_share_of_contexts_answered_otherwise():
    before = np.array([[0.9, 0.1], [0.2, 0.8], [1.0, 0.0], [0.6, 0.4]])
    after = np.array([[0.6, 0.4], [0.7, 0.3], [1.0, 0.0], [0.6, 0.4]])
    assert action_shift(before, after) == 0.25
    assert action_shift(before[:0], after[:0]) == 0.0


def test_scores_may_be_what_an_episode_adds_up_to_with_slack():
    assert score_limit(2.0) == 20.0
    assert score_limit(2.0, discount=0.9) == pytest.approx(200.0)
    assert score_limit(2.0, discount=1.0, horizon=50.0) == 1_000.0
    assert score_limit(0.1, bonus=3.0) == 40.0
