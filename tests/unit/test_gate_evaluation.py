import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakehouse_learner.gate.progressive_evaluation import (
    ProgressiveEvaluation,
    expected_square,
    paired_difference,
)


def test_a_paired_difference_worked_by_hand():
    # (1 − 0) · 2 + (0 − 1) · 1 = 1; weight (1 − 0) / 0.25 = 4; residual 3 − 2 = 1: 1 + 4
    assert paired_difference(
        candidate=np.array([[1.0, 0.0]]),
        anchor=np.array([[0.0, 1.0]]),
        model=np.array([[2.0, 1.0]]),
        action=np.array([0]),
        propensity=np.array([0.25]),
        reward=np.array([3.0]),
        weight_cap=100.0,
    ).tolist() == [5.0]


def test_weights_are_capped():
    assert paired_difference(
        candidate=np.array([[1.0, 0.0]]),
        anchor=np.array([[0.0, 1.0]]),
        model=np.zeros((1, 2)),
        action=np.array([1]),
        propensity=np.array([0.001]),
        reward=np.array([1.0]),
        weight_cap=10.0,
    ).tolist() == [-10.0]


@given(
    st.floats(0.05, 0.95),
    st.lists(st.floats(-5, 5), min_size=2, max_size=2),
    st.lists(st.floats(-5, 5), min_size=2, max_size=2),
)
def test_the_difference_is_unbiased_whatever_the_model_says(propensity, model, rewards):
    # expectation over the two actions that could have been executed
    executed = np.array([propensity, 1 - propensity])
    candidate, anchor = np.array([0.8, 0.2]), np.array([0.1, 0.9])
    values = paired_difference(
        candidate=np.tile(candidate, (2, 1)),
        anchor=np.tile(anchor, (2, 1)),
        model=np.tile(model, (2, 1)),
        action=np.array([0, 1]),
        propensity=executed,
        reward=np.array(rewards),
        weight_cap=1_000.0,
    )
    assert executed @ values == pytest.approx((candidate - anchor) @ rewards, abs=1e-9)


def test_the_expected_square_is_exact_for_a_greedy_action():
    # probabilities 0.8, 0.1, 0.1; (1 − 0)² / 0.8 + (0 − 1)² / 0.1
    assert expected_square(
        candidate=np.array([[1.0, 0.0, 0.0]]),
        anchor=np.array([[0.0, 1.0, 0.0]]),
        action=np.array([0]),
        propensity=np.array([0.8]),
        weight_cap=100.0,
    )[0] == pytest.approx(1.25 + 10.0)


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.5, math.nan])
def test_a_propensity_that_is_no_probability_is_refused(propensity):
    evaluation = ProgressiveEvaluation(alpha=0.05, weight_cap=100.0)
    before = evaluation.state()
    with pytest.raises(ValueError, match=r"outside \(0, 1\]"):
        evaluation.complete(
            np.eye(2),
            np.eye(2),
            np.eye(2),
            np.zeros(2, int),
            np.array([0.5, propensity]),
            np.ones(2),
        )
    assert evaluation.state() == before


def test_a_reward_that_is_not_finite_is_refused():
    evaluation = ProgressiveEvaluation(alpha=0.05, weight_cap=100.0)
    before = evaluation.state()
    with pytest.raises(ValueError, match="1 rewards are not finite"):
        evaluation.complete(
            np.eye(2), np.eye(2), np.eye(2), np.zeros(2, int), np.ones(2), np.array([1.0, np.nan])
        )
    assert evaluation.state() == before


class Logged:
    """Decisions of version 0: the baseline takes action 0, with ε = 0.5 of uniform over three.

    The candidate takes action 1 in half of the contexts; reward has a standard deviation of 1.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def rows(self, n: int, gain: float) -> tuple[np.ndarray, ...]:
        """`gain`: candidate − anchor, mean over contexts."""
        rng = self._rng
        executed = np.tile([2 / 3, 1 / 6, 1 / 6], (n, 1))
        action = rng.choice(3, size=n, p=executed[0])
        differs = rng.random(n) < 0.5
        candidate = np.eye(3)[differs.astype(int)]
        anchor = np.tile([1.0, 0.0, 0.0], (n, 1))
        reward = rng.normal(size=n) + np.where(differs & (action == 1), 2 * gain, 0.0)
        return candidate, anchor, np.zeros((n, 3)), action, executed[0][action], reward


def test_every_anchor_has_half_of_the_error_that_its_predecessor_had():
    spent = []
    evaluation = ProgressiveEvaluation(alpha=0.08, weight_cap=100.0)
    for version in (3, 9, 12):
        spent.append(evaluation.state()["differences"]["alpha"])
        evaluation.move_anchor(version)
    assert spent == [0.04, 0.02, 0.01]
    assert evaluation.anchor == 12
    assert evaluation.difference.n == 0


def test_rows_that_were_compared_with_an_earlier_anchor_tell_only_about_rewards():
    evaluation = ProgressiveEvaluation(alpha=0.05, weight_cap=100.0)
    rows = Logged(0).rows(300, 0.0)
    earlier = evaluation.era
    evaluation.move_anchor(5)
    era = np.where(np.arange(300) < 100, earlier, evaluation.era)
    evaluation.complete(*rows, era=era)
    assert evaluation.difference.n == 200
    assert evaluation.reward_std == pytest.approx(np.std(rows[-1], ddof=1))


def test_the_effective_sample_shrinks_where_weights_are_uneven():
    evaluation = ProgressiveEvaluation(alpha=0.05, weight_cap=100.0)
    candidate = np.tile([1.0, 0.0], (2, 1))
    # weights 1 and 4: 5² / 17
    evaluation.complete(
        candidate, candidate, np.zeros((2, 2)), np.zeros(2, int), np.array([1.0, 0.25]), np.ones(2)
    )
    assert evaluation.effective_sample == pytest.approx(25 / 17)


def test_nothing_evaluated_is_no_evidence():
    evaluation = ProgressiveEvaluation(alpha=0.05, weight_cap=100.0)
    assert evaluation.difference == (0.0, -math.inf, math.inf, 0)
    assert evaluation.episodes == (0.0, -math.inf, math.inf, 0)
    assert (evaluation.reward_std, evaluation.return_std, evaluation.effective_sample) == (0, 0, 0)


def test_episodes_are_compared_with_the_holdout():
    rng = np.random.default_rng(0)
    evaluation = ProgressiveEvaluation(alpha=0.05, weight_cap=100.0)
    evaluation.episode_returns(rng.normal(2.0, 1.0, 400), rng.normal(0.0, 1.0, 50))
    assert 0 < evaluation.episodes.lower < 2.0 < evaluation.episodes.upper
    assert evaluation.return_std > 1.0


def test_a_restored_evaluation_goes_on_as_the_first():
    logged = Logged(4)
    first = ProgressiveEvaluation(alpha=0.05, weight_cap=100.0)
    second = ProgressiveEvaluation(alpha=0.05, weight_cap=100.0)
    first.move_anchor(2)
    first.complete(*logged.rows(130, 0.1))
    first.episode_returns(np.arange(5.0), np.arange(3.0))
    second.restore(json.loads(json.dumps(first.state())))
    more = logged.rows(50, 0.1)
    first.complete(*more)
    second.complete(*more)
    assert first.difference == second.difference
    assert json.dumps(first.state()) == json.dumps(second.state())


def test_no_floor_is_refused():
    with pytest.raises(ValueError, match="1/floor"):
        ProgressiveEvaluation(alpha=0.05, weight_cap=0.5)


def test_a_thousand_and_more_anchors_leave_a_sequence_that_works():
    logged = Logged(4)
    evaluation = ProgressiveEvaluation(alpha=0.05, weight_cap=100.0)
    evaluation.era = 5_000
    evaluation.move_anchor(9)
    evaluation.complete(*logged.rows(130, 0.1))
    assert math.isfinite(evaluation.difference.lower)
