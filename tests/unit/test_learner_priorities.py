"""Rows that are predicted badly are drawn more often, and what is learned stays unbiased."""

from __future__ import annotations

import numpy as np
import pytest

from bakehouse_learner.training.minibatches import draw_rows
from bakehouse_learner.training.priorities import EPSILON, Priorities, importance
from tests.small_worlds import BATCH, STEPS, minibatches, tastes, untrained

SLOTS = np.arange(4)


def test_a_row_is_drawn_in_proportion_to_the_root_of_its_error() -> None:
    priorities = Priorities()
    priorities.update(
        SLOTS, SLOTS, np.array([0.0, 1.0, 4.0, 9.0], np.float32) - EPSILON * (SLOTS > 0)
    )
    found = priorities.probabilities(SLOTS, SLOTS)
    assert found == pytest.approx(np.array([0.1, 1, 2, 3]) / 6.1, rel=1e-5)
    assert importance(found) == pytest.approx([10, 6.1 / 4, 6.1 / 8, 6.1 / 12], rel=1e-5)


def test_who_was_never_trained_on_comes_first_and_so_does_who_took_an_old_ones_slot() -> None:
    priorities = Priorities()
    assert priorities.probabilities(SLOTS, SLOTS).tolist() == [0.25] * 4
    priorities.update(SLOTS[:3], SLOTS[:3], np.array([0.5, 2.0, np.nan], np.float32))
    sequence = np.array([4, 1, 2, 3])  # the decision of slot 0 has left the buffer
    found = priorities.probabilities(SLOTS, sequence)
    assert found == pytest.approx([0.25] * 4)
    assert priorities.probabilities(SLOTS, SLOTS)[0] < 0.2


def test_weights_undo_what_drawing_has_favoured() -> None:
    rng = np.random.default_rng(0)
    value = rng.random(500)
    priorities, slots = Priorities(), np.arange(500)
    priorities.update(slots, slots, value.astype(np.float32))  # large values are favoured
    probabilities = priorities.probabilities(slots, slots)
    none = np.zeros(0, np.int64)
    (drawn,) = draw_rows(none, slots, per_call=200_000, rng=rng, probabilities=probabilities)
    assert value[drawn].mean() > value.mean() + 0.05
    weight = importance(probabilities)[drawn]
    assert float((weight * value[drawn]).sum() / weight.sum()) == pytest.approx(
        value.mean(), abs=0.005
    )


def test_a_restored_memory_draws_the_same() -> None:
    priorities, other = Priorities(), Priorities()
    priorities.update(SLOTS, SLOTS + 7, np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    other.restore(priorities.state())
    expected = priorities.probabilities(SLOTS, SLOTS + 7)
    assert other.probabilities(SLOTS, SLOTS + 7).tolist() == expected.tolist()


def test_rainbow_tells_the_error_of_every_row_that_it_trained_on_and_of_no_other() -> None:
    agent, rng = untrained("rainbow"), np.random.default_rng(1)
    batch = minibatches(tastes(rng, 100), rng.integers(0, 100, (STEPS + 3, BATCH)))
    batch.weight[2] = 0.0
    batch.weight[:, 5] = 0.0
    agent.train(batch)
    errors = agent.row_errors
    assert errors is not None and errors.shape == batch.weight.shape
    np.testing.assert_array_equal(np.isfinite(errors), batch.weight > 0)
    # before anything is learned the error is the reward's distance from its mean, in deviations
    rewards = batch.reward[batch.weight > 0]
    first = np.abs(batch.reward[0, :5] - rewards.mean()) / rewards.std()
    np.testing.assert_allclose(errors[0, :5], first, rtol=1e-3)


def test_only_a_prioritised_agent_tells_errors() -> None:
    agent, rng = untrained("c51"), np.random.default_rng(2)
    agent.train(minibatches(tastes(rng, 100), rng.integers(0, 100, (1, BATCH))))
    assert agent.row_errors is None and not agent.prioritised
