"""Bandit estimators: worked by hand, against their formulas in exact fractions, and in law."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from estimators.bandits import ips as vw_ips
from estimators.bandits import snips as vw_snips
from hypothesis import given
from hypothesis import strategies as st

from bakehouse_learner.ope.bandits import (
    clipped_ips,
    direct_method,
    doubly_robust,
    ips,
    snips,
    switch_dr,
    switch_threshold,
)
from bakehouse_learner.ope.estimate import Contributions, linearised, value_of

# Two decisions: weights 0.5/0.25 = 2 and 0.1/0.5 = 0.2.
TARGET, PROPENSITY = np.array([0.5, 0.1]), np.array([0.25, 0.5])
REWARD, PREDICTED, MEAN = np.array([3.0, -1.0]), np.array([2.0, 0.0]), np.array([1.0, 0.5])

eighths = st.integers(-80, 80).map(lambda n: n / 8)
probabilities = st.integers(1, 64).map(lambda n: n / 64)
logs = st.lists(
    st.tuples(probabilities, probabilities, eighths, eighths, eighths), min_size=1, max_size=12
)


def columns(rows: list[tuple[float, ...]]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def every_estimator(rows: list[tuple[float, ...]]) -> dict[str, Contributions]:
    target, propensity, reward, predicted, mean = columns(rows)
    model = {"predicted": predicted, "predicted_mean": mean}
    found = [
        ips(target, propensity, reward),
        snips(target, propensity, reward),
        clipped_ips(target, propensity, reward, cap=1.5),
        direct_method(mean),
        doubly_robust(target, propensity, reward, **model),
        switch_dr(target, propensity, reward, **model, threshold=1.5),
    ]
    return {each.name: each for each in found}


def test_each_estimator_on_two_decisions_worked_by_hand():
    model = {"predicted": PREDICTED, "predicted_mean": MEAN}
    log = (TARGET, PROPENSITY, REWARD)
    assert value_of(ips(*log)) == pytest.approx((2 * 3 - 0.2) / 2)
    assert value_of(snips(*log)) == pytest.approx((2 * 3 - 0.2) / 2.2)
    assert value_of(clipped_ips(*log, cap=1.0)) == pytest.approx((1 * 3 - 0.2) / 2)
    assert value_of(direct_method(MEAN)) == pytest.approx(0.75)
    # 1 + 2 · (3 − 2) = 3 and 0.5 + 0.2 · (−1 − 0) = 0.3
    assert value_of(doubly_robust(*log, **model)) == pytest.approx((3 + 0.3) / 2)
    # the first weight is beyond 1: the model alone answers there
    assert value_of(switch_dr(*log, **model, threshold=1.0)) == pytest.approx((1 + 0.3) / 2)


@given(logs)
def test_every_estimator_is_its_formula_in_exact_fractions(rows):
    """The papers' sums, row by row, with no array and no rounding."""
    n = len(rows)
    total = dict.fromkeys(("ips", "clipped ips", "direct method", "doubly robust", "switch-DR"), 0)
    weighted = weights = Fraction(0)
    for row in rows:
        target, propensity, reward, predicted, mean = map(Fraction, row)
        weight = target / propensity
        weighted, weights = weighted + weight * reward, weights + weight
        total["ips"] += weight * reward
        total["clipped ips"] += min(weight, Fraction(3, 2)) * reward
        total["direct method"] += mean
        total["doubly robust"] += mean + weight * (reward - predicted)
        total["switch-DR"] += mean + (weight * (reward - predicted) if weight <= 1.5 else 0)
    exact = {name: Fraction(value) / n for name, value in total.items()}
    exact["snips"] = weighted / weights
    found = every_estimator(rows)
    assert set(found) == set(exact)
    for name, contributions in found.items():
        assert value_of(contributions) == pytest.approx(float(exact[name]), abs=1e-9), name


@given(logs)
def test_ips_and_snips_agree_with_another_implementation(rows):
    theirs = vw_ips.Estimator(), vw_snips.Estimator()
    for target, propensity, reward, *_ in rows:
        for estimator in theirs:
            estimator.add_example(p_log=propensity, r=reward, p_pred=target)
    target, propensity, reward, *_ = columns(rows)
    ours = ips(target, propensity, reward), snips(target, propensity, reward)
    for contributions, estimator in zip(ours, theirs, strict=True):
        assert value_of(contributions) == pytest.approx(estimator.get(), abs=1e-9)


@given(logs)
def test_of_the_logging_policy_itself_every_estimate_is_the_mean_reward(rows):
    _, propensity, reward, predicted, _ = columns(rows)
    model = {"predicted": predicted, "predicted_mean": predicted}
    log = (propensity, propensity, reward)
    for found in (
        ips(*log),
        snips(*log),
        clipped_ips(*log, cap=1.0),
        doubly_robust(*log, **model),
        switch_dr(*log, **model, threshold=1.0),
    ):
        assert value_of(found) == pytest.approx(float(np.mean(reward)), abs=1e-9), found.name


@given(logs, eighths)
def test_a_shift_of_all_rewards_shifts_snips_and_the_doubly_robust_by_as_much(rows, shift):
    target, propensity, reward, predicted, mean = columns(rows)
    moved = snips(target, propensity, reward + shift)
    assert value_of(moved) == pytest.approx(
        value_of(snips(target, propensity, reward)) + shift, abs=1e-9
    )
    plain, shifted = (
        doubly_robust(
            target, propensity, reward + by, predicted=predicted + by, predicted_mean=mean + by
        )
        for by in (0.0, shift)
    )
    assert value_of(shifted) == pytest.approx(value_of(plain) + shift, abs=1e-9)


@given(logs)
def test_snips_stays_within_the_rewards_seen(rows):
    target, propensity, reward, *_ = columns(rows)
    value = value_of(snips(target, propensity, reward))
    assert reward.min() - 1e-9 <= value <= reward.max() + 1e-9


@given(logs)
def test_with_a_perfect_model_weights_add_nothing_to_the_doubly_robust(rows):
    target, propensity, reward, _, mean = columns(rows)
    found = doubly_robust(target, propensity, reward, predicted=reward, predicted_mean=mean)
    assert found.numerator[:, 0].tolist() == mean.tolist()


@given(logs)
def test_linearised_contributions_average_to_the_estimate(rows):
    for name, contributions in every_estimator(rows).items():
        assert np.mean(linearised(contributions)) == pytest.approx(
            value_of(contributions), abs=1e-9
        ), name


@given(logs)
def test_contributions_of_two_halves_are_those_of_the_whole(rows):
    mask = np.arange(len(rows)) % 2 == 0
    for contributions in every_estimator(rows).values():
        first, second = contributions.take(mask), contributions.take(~mask)
        assert first.n + second.n == contributions.n
        whole = contributions.numerator.sum(), contributions.denominator.sum()
        parts = (
            first.numerator.sum() + second.numerator.sum(),
            first.denominator.sum() + second.denominator.sum(),
        )
        assert parts == pytest.approx(whole)


def test_the_switch_is_thrown_where_one_weight_costs_more_than_the_model_can():
    # Kept, the weight of 1,000 costs a variance of 2,475 / 100; without it a tenth of the mass is
    # the model's, which errs by 0.5 at most: a squared bias of 0.05².
    weight = np.array([90 / 99] * 99 + [1_000.0])
    assert switch_threshold(weight, np.full(100, 0.5), np.zeros(100)) == pytest.approx(90 / 99)


def test_the_switch_is_left_alone_where_weights_are_harmless():
    # half the weights 1.5, half 0.5: without the large ones 3/4 of the mass would be the model's
    weight, residual = np.tile([1.5, 0.5], 500), np.tile([1.0, 1.0, -1.0, -1.0], 250)
    assert switch_threshold(weight, residual, np.zeros(1_000)) == 1.5


def test_densities_above_one_are_weights_like_any_other():
    density = np.array([2.5, 0.4])
    assert value_of(ips(density, np.array([5.0, 0.2]), np.array([1.0, 1.0]))) == pytest.approx(1.25)


def test_without_any_weight_a_ratio_is_no_number():
    none = snips(np.zeros(3), np.full(3, 0.5), np.ones(3))
    assert np.isnan(value_of(none))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"propensity": [0.0, 0.5]}, "1 of 2 propensities are not above 0, such as 0.0"),
        ({"propensity": [float("nan"), 0.5]}, "1 of 2 propensities"),
        ({"target": [-0.1, 0.5]}, "1 of 2 target probabilities are below 0"),
        ({"reward": [float("inf"), 0.5]}, "1 values of reward are not finite"),
        ({"reward": [1.0]}, r"reward has shape \(1,\): expected \(2,\)"),
        ({"target": [0.5]}, "expected one number of each for every decision"),
    ],
)
def test_what_cannot_be_estimated_from_is_refused_by_name(changes, words):
    log = {"target": TARGET, "propensity": PROPENSITY, "reward": REWARD}
    log |= {name: np.array(values) for name, values in changes.items()}
    with pytest.raises(ValueError, match=words):
        ips(**log)
