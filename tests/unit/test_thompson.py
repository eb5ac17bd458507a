"""The probability of being best, against the closed form, simulation and its invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bakehouse_schemas.policy.policy import Head, Policy
from bakehouse_schemas.policy.thompson import normal_distribution, probability_of_being_best


def best(mean: list[float], deviation: list[float], eligible: list[bool] | None = None):
    mask = [True] * len(mean) if eligible is None else eligible
    return probability_of_being_best(np.array([mean]), np.array([deviation]), np.array([mask]))[0]


def test_the_normal_distribution_is_that_of_the_tables():
    found = normal_distribution(np.array([-9.0, -1.96, 0.0, 1.0, 9.0]))
    assert found == pytest.approx([0, 0.0249979, 0.5, 0.8413447, 1], abs=2e-6)


@pytest.mark.parametrize("mean", [0.0, 0.5, -3.0])
@pytest.mark.parametrize("deviations", [(1.0, 1.0), (0.01, 2.0), (5.0, 0.001)])
def test_of_two_actions_it_is_the_closed_form(mean: float, deviations: tuple[float, float]):
    """`P(X > Y) = Φ((μ_X − μ_Y) / √(σ_X² + σ_Y²))`"""
    z = mean / math.hypot(*deviations)
    expected = 0.5 * math.erfc(-z / math.sqrt(2))
    found = best([mean, 0.0], list(deviations))
    assert found == pytest.approx([expected, 1 - expected], abs=1e-3)


@pytest.mark.parametrize("actions", [3, 7, 40])
def test_of_more_actions_it_is_what_drawing_gives(actions: int):
    rng = np.random.default_rng(actions)
    mean, deviation = rng.normal(size=actions), 10 ** rng.uniform(-1, 1, actions)
    draws = mean + deviation * rng.standard_normal((200_000, actions))
    simulated = np.bincount(draws.argmax(axis=1), minlength=actions) / len(draws)
    found = best(mean.tolist(), deviation.tolist())
    np.testing.assert_allclose(found, simulated, atol=5e-3)  # 3 σ of the simulation and more


def test_only_eligible_actions_can_be_best():
    found = best([9.0, 0.0, 0.0], [1.0, 2.0, 2.0], [False, True, True])
    assert found == pytest.approx([0.0, 0.5, 0.5], abs=1e-9)
    assert best([9.0, 0.0], [1.0, 1.0], [False, True]).tolist() == [0.0, 1.0]


def test_where_nothing_is_uncertain_the_best_has_it_all_and_equals_share():
    assert best([1.0, 2.0], [0.0, 0.0]) == pytest.approx([0.0, 1.0])
    assert best([2.0, 2.0, 2.0], [0.0, 0.0, 0.0]) == pytest.approx([1 / 3] * 3)


@given(
    mean=arrays(np.float32, (3, 4), elements=st.floats(-1e6, 1e6, width=32)),
    deviation=arrays(np.float32, (3, 4), elements=st.floats(0, 1e6, width=32)),
    eligible=arrays(bool, (3, 4)),
)
def test_whatever_comes_it_is_a_distribution_over_the_eligible(mean, deviation, eligible):
    eligible[:, 0] |= ~eligible.any(axis=1)
    found = probability_of_being_best(mean, deviation, eligible)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-12)
    assert np.all(found >= 0)
    assert np.all(found[~eligible] == 0)


def test_many_rows_are_worked_out_as_one_by_one():
    rng = np.random.default_rng(0)
    mean, deviation = rng.normal(size=(600, 40)), rng.random((600, 40))
    eligible = rng.random((600, 40)) < 0.8
    together = probability_of_being_best(mean, deviation, eligible)
    for at in (0, 300, 599):
        row = slice(at, at + 1)
        alone = probability_of_being_best(mean[row], deviation[row], eligible[row])
        np.testing.assert_allclose(together[row], alone, rtol=1e-12)


def test_a_thompson_head_scores_the_mean_and_answers_the_probability_of_being_best():
    policy = Policy(
        operations=[],
        head=Head(kind="thompson", scale=2.0),
        arrays={
            "normaliser_offset": np.zeros(1),
            "normaliser_scale": np.ones(1),
            "normaliser_clip": np.array(10.0),
            "theta": np.array([[1.0, 0.0], [0.0, 1.0]]),
            "inverse": np.stack([np.eye(2), 4.0 * np.eye(2)]),
        },
        actions=2,
    )
    # x = (1, 3): means 1 and 3, deviations 2·√10 and 2·√40; z = 2 / √(40 + 160)
    observation = np.array([[3.0]], np.float32)
    assert policy.scores(observation).tolist() == [[1.0, 3.0]]
    (found,) = policy.distribution(observation, np.ones((1, 2), bool))
    second = 0.5 * math.erfc(-2 / math.sqrt(200) / math.sqrt(2))
    assert found == pytest.approx([1 - second, second], abs=1e-3)
