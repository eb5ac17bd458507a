import json
import math

import numpy as np
import pytest

from bakehouse_learner.ope.fitted_q import Choice, Transitions, fitted_q_difference

GAMMA = 0.5


def _always(action: int, rows: int) -> np.ndarray:
    return np.tile(np.eye(2)[action], (rows, 1))


def _chain(episodes: int) -> tuple[Transitions, np.ndarray]:
    """From state 0, action 0 ends with 1; action 1 pays 0 and leads to state 1. There action 0
    ends with 0 and action 1 with 4. One-hot states; logged at random, without noise."""
    rng = np.random.default_rng(0)
    rows = []
    for episode in range(episodes):
        first = int(rng.integers(2))
        rows.append((0, first, 1.0 - first, GAMMA * first, first, episode))
        if first == 1:
            second = int(rng.integers(2))
            rows.append((1, second, 4.0 * second, 0.0, 0, episode))
    state, action, reward, discount, following, episode = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    states = np.eye(2)
    return (
        Transitions(states[state], action, reward, discount, states[following], episode),
        np.tile(states[0], (episodes, 1)),
    )


def _policies(transitions: Transitions, starts: np.ndarray) -> tuple[Choice, Choice]:
    n, m = len(transitions.reward), len(starts)
    return (
        Choice(after=_always(1, n), start=_always(1, m)),
        Choice(after=_always(0, n), start=_always(0, m)),
    )


def test_it_looks_ahead_on_a_chain_worked_by_hand():
    # always 1: 0 + γ · 4 = 2; always 0: 1
    transitions, starts = _chain(2_000)
    candidate, baseline = _policies(transitions, starts)
    found = fitted_q_difference(transitions, starts, candidate=candidate, baseline=baseline)
    assert found.candidate == pytest.approx(2.0, abs=0.01)
    assert found.baseline == pytest.approx(1.0, abs=0.01)
    assert found.estimate == pytest.approx(1.0, abs=0.01)
    assert 0 < found.lower < found.estimate < found.upper
    assert (found.transitions, found.starts) == (len(transitions.reward), 2_000)


def test_a_policy_equal_to_the_baseline_differs_by_nothing_and_has_no_bounds():
    transitions, starts = _chain(60)
    candidate, _ = _policies(transitions, starts)
    found = fitted_q_difference(transitions, starts, candidate=candidate, baseline=candidate)
    assert (found.estimate, found.lower, found.upper) == (0.0, -math.inf, math.inf)


def test_few_starts_have_no_interval():
    transitions, starts = _chain(49)
    candidate, baseline = _policies(transitions, starts)
    found = fitted_q_difference(transitions, starts, candidate=candidate, baseline=baseline)
    assert (found.lower, found.upper) == (-math.inf, math.inf)
    assert json.loads(json.dumps(found.as_dict()))["lower"] is None


def test_the_interval_covers_the_truth_at_every_look():
    # as the chain, with noise of 2 and the discount of 1
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(40):
        transitions, starts = _chain(400)
        noisy = transitions._replace(
            reward=transitions.reward + rng.normal(0, 2.0, len(transitions.reward)),
            discount=transitions.discount / GAMMA,
        )
        for looked in (100, 200, 400):
            seen = noisy.episode < looked
            rows = Transitions(*(column[seen] for column in noisy))
            candidate, baseline = _policies(rows, starts[:looked])
            found = fitted_q_difference(
                rows, starts[:looked], candidate=candidate, baseline=baseline
            )
            if not found.lower <= 3.0 <= found.upper:  # 4 − 1
                wrong += 1
                break
    assert wrong <= 4


def test_where_the_log_has_not_been_the_interval_is_wide():
    transitions, starts = _chain(400)
    taken = (transitions.observation[:, 1] == 1) & (transitions.action == 1)
    unseen = Transitions(*(column[~taken] for column in transitions))
    widths = []
    for rows in (unseen, transitions):
        candidate, baseline = _policies(rows, starts)
        found = fitted_q_difference(rows, starts, candidate=candidate, baseline=baseline)
        widths.append(found.upper - found.lower)
    assert widths[0] > 2 * widths[1]


def test_a_fit_that_runs_away_gives_no_bounds():
    # one state that leads to itself with a "discount" of 2: no value is finite
    n = 200
    state = np.ones((n, 1))
    transitions = Transitions(
        state, np.arange(n) % 2, np.ones(n), np.full(n, 2.0), state, np.arange(n)
    )
    candidate, baseline = _policies(transitions, state)
    found = fitted_q_difference(transitions, state, candidate=candidate, baseline=baseline)
    assert (found.lower, found.upper) == (-math.inf, math.inf)
    assert found.as_dict()["estimate"] is None


def test_values_that_are_not_finite_are_refused_by_name():
    transitions, starts = _chain(60)
    candidate, baseline = _policies(transitions, starts)
    reward = transitions.reward.copy()
    reward[3] = np.nan
    with pytest.raises(ValueError, match="1 values of reward are not finite"):
        fitted_q_difference(
            transitions._replace(reward=reward), starts, candidate=candidate, baseline=baseline
        )


def test_nothing_to_look_at_is_refused():
    transitions, starts = _chain(60)
    candidate, baseline = _policies(transitions, starts)
    with pytest.raises(ValueError, match="0 starts"):
        fitted_q_difference(transitions, starts[:0], candidate=candidate, baseline=baseline)
