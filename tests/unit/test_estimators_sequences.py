"""Estimators over episodes: worked by hand, and against the papers' recursions in fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakehouse_learner.ope.estimate import linearised, value_of
from bakehouse_learner.ope.sequences import (
    Episodes,
    doubly_robust_sequences,
    logged_returns,
    per_decision_is,
    weighted_per_decision_is,
)

eighths = st.integers(-80, 80).map(lambda n: n / 8)
probabilities = st.integers(1, 16).map(lambda n: n / 16)
# (target, propensity, reward, q of the action taken, v) of each step of each episode
steps = st.tuples(probabilities, probabilities, eighths, eighths, eighths)
played = st.lists(st.lists(steps, min_size=1, max_size=4), min_size=1, max_size=6)
Played = list[list[tuple[float, ...]]]


def arrays(games: Played, discount: float, order: np.ndarray | None = None) -> Episodes:
    rows = [(e, t, *step[:3]) for e, game in enumerate(games) for t, step in enumerate(game)]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    if order is not None:
        columns = [column[order] for column in columns]
    return Episodes(*columns, discount)


def models(games: Played) -> dict[str, np.ndarray]:
    flat = [step for game in games for step in game]
    return {"q_taken": np.array([s[3] for s in flat]), "v": np.array([s[4] for s in flat])}


# Episode 0: weights 2, 0.5, rewards 1, 4. Episode 1: weight 0.5, reward 2, and over.
GAMES: Played = [[(0.5, 0.25, 1.0, 0.5, 3.0), (0.25, 0.5, 4.0, 2.0, 1.0)], [(0.25, 0.5, 2, 1, 2)]]


def test_two_episodes_worked_by_hand():
    episodes = arrays(GAMES, 0.5)
    # 2 · 1 + 0.5 · (2 · 0.5) · 4 = 4, and 0.5 · 2 = 1
    assert value_of(per_decision_is(episodes)) == pytest.approx((4 + 1) / 2)
    # step 0: (2 · 1 + 0.5 · 2) / 2.5; step 1: 0.5 · (1 · 4 + 0.5 · 0) / (1 + 0.5)
    assert value_of(weighted_per_decision_is(episodes)) == pytest.approx(3 / 2.5 + 2 / 1.5)
    # v + w (r + γ (v' + w' (r' − q')) − q): 3 + 2 (1 + 0.5 (1 + 0.5 · 2) − 0.5) = 6
    # and 2 + 0.5 (2 − 1) = 2.5
    found = doubly_robust_sequences(episodes, **models(GAMES))
    assert found.numerator[:, 0].tolist() == pytest.approx([6.0, 2.5])
    assert logged_returns(episodes).numerator[:, 0].tolist() == pytest.approx([3.0, 2.0])


@given(played, st.sampled_from([0.5, 0.75, 1.0]))
def test_every_estimator_is_its_recursion_in_exact_fractions(games, discount):
    """Backwards along each episode, as the papers write it, with no array and no rounding."""
    gamma, m = Fraction(discount), len(games)
    plain = robust = Fraction(0)
    numerators: dict[int, Fraction] = {}
    denominators: dict[int, Fraction] = {}
    longest = max(map(len, games))
    for game in games:
        ahead_plain = ahead_robust = Fraction(0)
        for target, propensity, reward, q, v in reversed([tuple(map(Fraction, s)) for s in game]):
            weight = target / propensity
            ahead_plain = weight * (reward + gamma * ahead_plain)
            ahead_robust = v + weight * (reward + gamma * ahead_robust - q)
        plain, robust = plain + ahead_plain, robust + ahead_robust
        product = Fraction(1)
        for t in range(longest):
            if t < len(game):
                product *= Fraction(game[t][0]) / Fraction(game[t][1])
                earned = product * Fraction(game[t][2]) * gamma**t
                numerators[t] = numerators.get(t, Fraction(0)) + earned
            denominators[t] = denominators.get(t, Fraction(0)) + product
    weighted = sum(numerators[t] / denominators[t] for t in numerators)
    episodes = arrays(games, discount)
    assert value_of(per_decision_is(episodes)) == pytest.approx(float(plain / m), abs=1e-9)
    assert value_of(weighted_per_decision_is(episodes)) == pytest.approx(float(weighted), abs=1e-9)
    found = doubly_robust_sequences(episodes, **models(games))
    assert value_of(found) == pytest.approx(float(robust / m), abs=1e-9)


@given(played)
def test_of_the_logging_policy_itself_every_estimate_is_the_mean_return(games):
    same: Played = [[(p, p, r, q, q) for _, p, r, q, _ in game] for game in games]
    episodes = arrays(same, 0.75)
    expected = value_of(logged_returns(episodes))
    assert value_of(per_decision_is(episodes)) == pytest.approx(expected, abs=1e-9)
    assert value_of(weighted_per_decision_is(episodes)) == pytest.approx(expected, abs=1e-9)
    robust = doubly_robust_sequences(episodes, **models(same))
    assert value_of(robust) == pytest.approx(expected, abs=1e-9)


@given(played)
def test_linearised_episodes_average_to_the_estimate(games):
    for found in (per_decision_is, weighted_per_decision_is):
        contributions = found(arrays(games, 0.75))
        assert np.mean(linearised(contributions)) == pytest.approx(
            value_of(contributions), abs=1e-9
        )


@given(played, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_is_of_no_matter(games, random):
    order = list(range(sum(map(len, games))))
    random.shuffle(order)
    for found in (per_decision_is, weighted_per_decision_is):
        shuffled = found(arrays(games, 0.75, np.array(order)))
        assert value_of(shuffled) == pytest.approx(value_of(found(arrays(games, 0.75))), abs=1e-9)


@given(played, eighths)
def test_with_a_perfect_model_of_a_fixed_course_weights_add_nothing(games, v0):
    """Where q = r + γ v of the next step, every correction is zero: what is left is v at start."""
    perfect: Played = []
    for game in games:
        steps, ahead = [], 0.0
        for target, propensity, reward, _, _ in reversed(game):
            q = reward + 0.5 * ahead
            steps.append((target, propensity, reward, q, v0))
            ahead = v0
        perfect.append(steps[::-1])
    found = doubly_robust_sequences(arrays(perfect, 0.5), **models(perfect))
    assert found.numerator[:, 0] == pytest.approx(np.full(len(games), v0), abs=1e-9)


@pytest.mark.parametrize("step", [[0, 2], [0, 0], [1, 2], [-1, 0]])
def test_an_episode_with_a_gap_or_a_repeat_is_refused(step):
    half = np.full(2, 0.5)
    with pytest.raises(ValueError, match="without a gap or a repeat"):
        per_decision_is(Episodes(np.zeros(2), np.array(step), half, half, half, 0.9))


def test_weights_beyond_floating_point_are_refused():
    n = 400
    episodes = Episodes(
        np.zeros(n), np.arange(n), np.ones(n), np.full(n, 0.01), np.zeros(n), discount=0.9
    )
    with pytest.raises(ValueError, match="too long for importance weights"):
        per_decision_is(episodes)


@pytest.mark.parametrize("discount", [0.0, 1.1, float("nan")])
def test_a_discount_that_is_none_is_refused(discount):
    with pytest.raises(ValueError, match="expected in"):
        per_decision_is(arrays(GAMES, discount))
