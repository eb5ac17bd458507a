"""The estimate out of version 0 where actions are numbers, against values worked by hand."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from bakehouse_learner.ope.weighted_td import LoggedSteps, ValueDifference, weighted_td_difference

GAMMA = 0.5
LOW = 0.6  # a policy draws uniformly from [LOW, 1]; the log from [0, 1]


def _walk(
    episodes: int, *, noise: float = 0.0, seed: int = 0
) -> tuple[LoggedSteps, np.ndarray, np.ndarray]:
    """State 0: a number u pays 1 − u and leads, with probability u, to state 1, where u pays 4u
    and it is over. One-hot states; u logged uniformly."""
    rng = np.random.default_rng(seed)
    rows = []
    for episode in range(episodes):
        first, second = rng.random(2)
        goes_on = rng.random() < first
        rows.append((0, first, 1.0 - first, GAMMA * goes_on, episode))
        if goes_on:
            rows.append((1, second, 4.0 * second, 0.0, episode))
    state, number, reward, discount, episode_of = (np.array(c) for c in zip(*rows, strict=True))
    states = np.eye(2)
    steps = LoggedSteps(
        observation=states[state],
        reward=reward + noise * rng.standard_normal(len(rows)),
        discount=discount,
        next_observation=np.tile(states[1], (len(rows), 1)),
        episode=episode_of,
        propensity=np.ones(len(rows)),
    )
    return steps, number, np.tile(states[0], (episodes, 1))


def _high(number: np.ndarray) -> np.ndarray:
    return np.where(number >= LOW, 1 / (1 - LOW), 0.0)


# u ~ [0.6, 1]: 0.2 + 0.8 γ · 3.2; u ~ [0, 1]: 0.5 + 0.5 γ · 2
HIGH, ANY = 0.2 + 0.8 * GAMMA * 3.2, 0.5 + 0.5 * GAMMA * 2.0


def _found(episodes: int, *, noise: float = 0.0, seed: int = 0) -> ValueDifference:
    steps, number, starts = _walk(episodes, noise=noise, seed=seed)
    return weighted_td_difference(
        steps,
        starts,
        candidate=_high(number),
        version_0=np.ones(len(number)),
        most_weight=100.0,
    )


def test_it_looks_ahead_on_a_walk_worked_by_hand():
    found = _found(4_000)
    assert found.candidate == pytest.approx(HIGH, abs=0.03)
    assert found.version_0 == pytest.approx(ANY, abs=0.03)
    assert found.lower < found.estimate < found.upper
    assert found.lower < HIGH - ANY < found.upper
    assert found.lower > 0


def test_a_policy_equal_to_version_0_differs_by_nothing_and_has_no_bounds():
    steps, number, starts = _walk(100)
    same = _high(number)
    found = weighted_td_difference(steps, starts, candidate=same, version_0=same, most_weight=9.0)
    assert (found.estimate, found.lower, found.upper) == (0.0, -math.inf, math.inf)


def test_the_interval_covers_the_truth_at_every_look():
    wrong = 0
    for seed in range(40):
        looks = [_found(episodes, noise=1.0, seed=seed) for episodes in (100, 200, 400)]
        wrong += any(not look.lower <= HIGH - ANY <= look.upper for look in looks)
    assert wrong <= 4


def test_few_starts_have_no_interval():
    found = _found(49)
    assert (found.lower, found.upper) == (-math.inf, math.inf)


def test_where_the_log_has_not_been_the_interval_is_wide():
    steps, number, starts = _walk(1_000)
    widths = []
    for spread, centre in ((0.2, 0.5), (0.01, 3.0)):  # around a usual number, and around none
        normal = NormalDist(centre, spread)
        density = np.array([normal.pdf(u) for u in number])
        found = weighted_td_difference(
            steps, starts, candidate=density, version_0=np.ones(len(number)), most_weight=100.0
        )
        widths.append(found.upper - found.lower)
    assert widths[1] > 3 * widths[0]


def test_weights_are_cut_off():
    steps, number, starts = _walk(400)
    rare = steps._replace(propensity=np.where(np.arange(len(number)) == 7, 1e-9, 1.0))
    found = weighted_td_difference(
        rare,
        starts,
        candidate=np.ones(len(number)),
        version_0=np.ones(len(number)),
        most_weight=5.0,
    )
    assert found.estimate == 0.0
    assert found.candidate == pytest.approx(ANY, abs=0.15)


def test_values_that_are_not_finite_are_refused_by_name():
    steps, number, starts = _walk(60)
    density = np.ones(len(number))
    density[3] = np.nan
    with pytest.raises(ValueError, match="1 values of candidate are not finite"):
        weighted_td_difference(
            steps, starts, candidate=density, version_0=np.ones(len(number)), most_weight=9.0
        )


def test_nothing_to_look_at_is_refused():
    steps, number, starts = _walk(60)
    ones = np.ones(len(number))
    with pytest.raises(ValueError, match="0 starts"):
        weighted_td_difference(steps, starts[:0], candidate=ones, version_0=ones, most_weight=9.0)
