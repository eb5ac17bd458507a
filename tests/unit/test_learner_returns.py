"""n-step returns, by hand."""

from __future__ import annotations

import numpy as np

from bakehouse_learner.training.returns import Chain, n_step_returns


def chain(**changes: list[object]) -> Chain:
    """Three decisions in a row, rewards 1, 2, 4; the last has a successor not yet resident."""
    columns = {
        "reward": [1.0, 2.0, 4.0],
        "known": [True, True, True],
        "terminal": [False, False, False],
        "has_next": [True, True, True],
        "following": [1, 2, -1],
    } | changes
    return Chain(**{name: np.array(values) for name, values in columns.items()})


ALL = np.arange(3)


def test_one_step_bootstraps_with_one_discount() -> None:
    found = n_step_returns(chain(), ALL, discount=0.5, n_step=1)
    assert found.reward.tolist() == [1.0, 2.0, 4.0]
    assert found.discount.tolist() == [0.5, 0.5, 0.5]
    assert found.last.tolist() == [0, 1, 2]


def test_rewards_are_discounted_and_the_return_is_as_long_as_there_are_successors() -> None:
    found = n_step_returns(chain(), ALL, discount=0.5, n_step=3)
    assert found.reward.tolist() == [1 + 0.5 * 2 + 0.25 * 4, 2 + 0.5 * 4, 4.0]
    assert found.discount.tolist() == [0.125, 0.25, 0.5]
    assert found.last.tolist() == [2, 2, 2]
    assert found.trainable.all()


def test_a_terminal_step_completes_the_returns_that_reach_it() -> None:
    ended = chain(terminal=[False, False, True], has_next=[True, True, False])
    found = n_step_returns(ended, ALL, discount=0.5, n_step=2)
    assert found.reward.tolist() == [2.0, 4.0, 4.0]
    assert found.discount.tolist() == [0.25, 0.0, 0.0]


def test_a_tail_that_cannot_be_bootstrapped_is_left_out_and_its_predecessor_stops_before_it() -> (
    None
):
    open_tail = chain(has_next=[True, True, False])
    found = n_step_returns(open_tail, ALL, discount=0.5, n_step=3)
    assert found.trainable.tolist() == [True, True, False]
    assert found.last.tolist() == [1, 1, 2]
    assert found.discount.tolist() == [0.25, 0.5, 0.5]


def test_a_successor_whose_reward_may_not_be_used_is_not_summed() -> None:
    contested = chain(known=[True, False, True])
    found = n_step_returns(contested, ALL, discount=0.5, n_step=3)
    assert found.reward.tolist() == [1.0, 4.0, 4.0]
    assert found.discount[0] == 0.5
    assert found.trainable.tolist() == [True, False, True]


def test_nothing_is_summed_beyond_an_end_even_if_a_successor_is_claimed() -> None:
    ended_first = chain(terminal=[True, False, False])
    found = n_step_returns(ended_first, ALL, discount=0.5, n_step=3)
    assert (found.reward[0], found.discount[0]) == (1.0, 0.0)
