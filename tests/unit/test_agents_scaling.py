"""Observations and rewards are brought to about one; hand-worked where it can be."""

from __future__ import annotations

import numpy as np
import pytest

from bakehouse_learner.training.normaliser import fit_normaliser, static_normaliser
from bakehouse_learner.training.reward_scale import RewardScale
from bakehouse_schemas.application.observation import Boolean, Categorical, Encoder, Numeric
from bakehouse_schemas.policy.policy import Head, Policy

STATIC = Encoder(
    [Numeric("gold", low=0, high=200), Boolean("vip"), Categorical("os", values=["a", "b"])]
)
MIXED = Encoder([Numeric("gold", low=0, high=200), Numeric("streak")])


def test_a_known_range_becomes_minus_one_to_one_and_a_one_hot_stays() -> None:
    normaliser = static_normaliser(STATIC.bounds())
    assert normaliser is not None
    rows = np.array([[0, 0, 1, 0], [50, 1, 0, 1], [200, 1, 0, 1]], np.float32)
    expected = [[-1, 0, 1, 0], [-0.5, 1, 0, 1], [1, 1, 0, 1]]
    np.testing.assert_allclose(normaliser.apply(rows), expected)


def test_there_is_no_static_normaliser_where_one_range_is_unknown() -> None:
    assert static_normaliser(MIXED.bounds()) is None


def test_an_unknown_range_is_learned_and_the_known_one_kept() -> None:
    rng = np.random.default_rng(0)
    rows = np.stack([rng.uniform(0, 200, 1_000), rng.normal(40, 8, 1_000)], axis=1)
    normaliser = fit_normaliser(MIXED.bounds(), rows.astype(np.float32))
    assert normaliser.offset[0] == 100.0 and normaliser.scale[0] == np.float32(0.01)
    assert normaliser.offset[1] == pytest.approx(40, abs=1)
    assert 1 / normaliser.scale[1] == pytest.approx(8, rel=0.1)


def test_one_absurd_row_does_not_set_the_scale() -> None:
    rng = np.random.default_rng(1)
    rows = np.stack([np.zeros(1_000), rng.normal(0, 1, 1_000)], axis=1).astype(np.float32)
    rows[7, 1] = 1e30
    normaliser = fit_normaliser(MIXED.bounds(), rows)
    assert 1 / normaliser.scale[1] == pytest.approx(1, rel=0.15)


def test_a_dimension_that_has_not_moved_does_not_explode_when_it_does() -> None:
    rows = np.full((1_000, 2), 50.0, np.float32)
    normaliser = fit_normaliser(MIXED.bounds(), rows)
    assert normaliser.apply(np.array([100, 51], np.float32))[1] == pytest.approx(1 / 50)


@pytest.mark.parametrize("encoder", [STATIC, MIXED])
def test_whatever_a_context_can_hold_comes_out_within_the_clip(encoder: Encoder) -> None:
    largest = np.finfo(np.float32).max
    rows = np.random.default_rng(2).random((100, encoder.size), np.float32)
    normaliser = fit_normaliser(encoder.bounds(), rows)
    for extreme in (largest, -largest, 0.0):
        found = normaliser.apply(np.full((1, encoder.size), extreme, np.float32))
        assert np.isfinite(found).all() and np.abs(found).max() <= normaliser.clip


def test_rows_that_are_not_finite_are_passed_over_and_none_is_too_few() -> None:
    rows = np.array([[1, np.nan], [1, 2], [1, 4]], np.float32)
    assert fit_normaliser(MIXED.bounds(), rows).offset[1] == pytest.approx(3.0, abs=0.01)
    with pytest.raises(ValueError, match="none is finite"):
        fit_normaliser(MIXED.bounds(), rows[:1])


def test_serving_normalises_by_the_same_formula() -> None:
    rows = np.random.default_rng(3).normal(0, 500, (300, 2)).astype(np.float32)
    normaliser = fit_normaliser(MIXED.bounds(), rows)
    arrays = {"theta": np.zeros((2, 3)), "inverse": np.tile(np.eye(3), (2, 1, 1))}
    policy = Policy(
        operations=[], head=Head(kind="linear"), arrays=arrays | normaliser.arrays(), actions=2
    )
    np.testing.assert_array_equal(policy.normalise(rows), normaliser.apply(rows))


def test_a_centred_scale_has_the_mean_and_spread_of_its_rewards() -> None:
    scale = RewardScale(centred=True)
    scale.update(np.array([2.0, 4.0, 6.0, 8.0]))
    assert scale.offset == 5.0
    assert scale.unit == pytest.approx(np.sqrt(5.0))
    found = scale.in_units(np.array([5.0, 5.0 + np.sqrt(5.0)], np.float32))
    np.testing.assert_allclose(found, [0, 1], atol=1e-6)


def test_two_batches_give_the_mean_and_spread_of_both_together() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(1e6, 3, 100), rng.normal(1e6 + 5, 2, 100)
    scale = RewardScale(centred=True)
    scale.update(first)
    scale.update(second)
    both = np.concatenate([first, second])
    assert scale.offset == pytest.approx(both.mean(), rel=1e-12)
    assert scale.unit == pytest.approx(both.std(), rel=1e-6)


def test_an_uncentred_scale_moves_no_zero() -> None:
    scale = RewardScale(centred=False)
    scale.update(np.array([3.0, 5.0]))
    assert scale.offset == 0.0
    assert scale.unit == pytest.approx(np.sqrt(17.0))


def test_a_rewrite_keeps_what_is_predicted_in_the_games_unit() -> None:
    scale = RewardScale(centred=True)
    scale.update(np.array([1.0, 3.0]))
    raw = 0.7  # the network's output
    predicted = scale.offset + scale.unit * raw
    ratio, shift = scale.update(np.array([100.0, 900.0, -50.0]))
    assert scale.offset + scale.unit * (ratio * raw + shift) == pytest.approx(predicted)


@pytest.mark.parametrize("constant", [0.0, 7.0, -1e6])
def test_constant_rewards_have_a_unit_that_is_not_zero(constant: float) -> None:
    scale = RewardScale(centred=True)
    scale.update(np.full(10, constant))
    assert scale.unit > 0.0
    np.testing.assert_array_equal(scale.in_units(np.full(3, constant)), 0)


def test_drift_is_followed() -> None:
    scale = RewardScale(centred=True)
    scale.update(np.zeros(1_000_000))
    for _ in range(500):
        scale.update(np.full(100, 10.0))
    assert scale.offset == pytest.approx(10.0, rel=0.01)


def test_a_scale_resumes_where_it_stopped() -> None:
    scale, resumed = RewardScale(centred=True), RewardScale(centred=True)
    scale.update(np.array([1.0, 2.0, np.nan]))
    resumed.restore(scale.state())
    scale.update(np.array([5.0]))
    resumed.update(np.array([5.0]))
    np.testing.assert_array_equal(resumed.state(), scale.state())
