"""The compiled training function: shapes, padding, and steps that must not be taken."""

from __future__ import annotations

import numpy as np
import pytest

from bakehouse_learner.agents.common.gradient import GradientAgent
from bakehouse_learner.training.batch import Batch
from tests.small_worlds import BATCH, STEPS, minibatches, tastes, untrained

COLUMNS = [name for name in Batch._fields if name not in ("resident", "items")]


def _agent(name: str = "neural_greedy") -> GradientAgent:
    agent = untrained(name)
    assert isinstance(agent, GradientAgent)
    return agent


def _batch(rng: np.random.Generator, steps: int, rows: int) -> Batch:
    return minibatches(tastes(rng, 300), rng.integers(0, 300, (steps, rows)))


def _without_influence(batch: Batch, rows: slice) -> Batch:
    """The batch with nonsense of weight 0 in these rows."""
    columns = {name: getattr(batch, name).copy() for name in COLUMNS}
    for name in ("observation", "reward", "next_observation"):
        columns[name][:, rows] = np.nan
    columns["weight"][:, rows] = 0
    return batch._replace(**columns)


@pytest.mark.parametrize("name", ["neural_greedy", "dqn"])
def test_any_number_of_minibatches_and_rows_is_trained_by_one_compilation(name: str) -> None:
    agent, rng = _agent(name), np.random.default_rng(0)
    for steps, rows in ((1, BATCH), (STEPS, BATCH), (3, 5), (5 * STEPS + 1, BATCH), (0, BATCH)):
        agent.train(_batch(rng, steps, rows))
    assert agent.training.compiled.experimental_get_tracing_count() == 1
    assert int(agent.state()["steps"]) == 1 + STEPS + 3 + 5 * STEPS + 1


@pytest.mark.parametrize("name", ["neural_greedy", "dqn"])
def test_rows_of_weight_zero_have_no_influence_whatever_they_hold(name: str) -> None:
    agent, rng = _agent(name), np.random.default_rng(1)
    full = _batch(rng, STEPS, BATCH)
    half = full._replace(
        **{name: getattr(full, name)[:, : BATCH // 2] for name in COLUMNS}, resident=300
    )
    full = full._replace(resident=300)
    agent.train(half)
    expected = {key: array.copy() for key, array in agent.state().items()}
    agent = _agent(name)
    agent.train(_without_influence(full, slice(BATCH // 2, None)))
    for key, array in agent.state().items():
        np.testing.assert_array_equal(array, expected[key], err_msg=key)


def test_a_minibatch_without_any_weight_takes_no_step() -> None:
    agent, rng = _agent(), np.random.default_rng(2)
    agent.train(_batch(rng, 2, BATCH))
    before = {key: array.copy() for key, array in agent.state().items()}
    assert agent.train(_without_influence(_batch(rng, 2, BATCH), slice(None))) == {}
    for key, array in agent.state().items():
        np.testing.assert_array_equal(array, before[key], err_msg=key)


def test_a_heavier_row_pulls_its_prediction_further() -> None:
    rng = np.random.default_rng(3)
    batch = _batch(rng, 60, 2)
    same = np.zeros((1, 3), np.float32)
    batch.observation[:], batch.action[:] = 0, 1
    batch.reward[:] = [0.0, 1.0]
    batch.weight[:] = [1.0, 3.0]
    agent = _agent()
    for _ in range(5):
        agent.train(batch)
    # the weighted mean of 0 and 1 with weights 1 and 3
    assert agent.scores(same)[0, 1] == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_reward_that_is_not_finite_shows_in_the_loss_and_not_in_the_weights(bad: float) -> None:
    agent, rng = _agent(), np.random.default_rng(4)
    agent.train(_batch(rng, 2, BATCH))
    spoiled = _batch(rng, 2, BATCH)
    spoiled.reward[0, 3] = bad
    assert not np.isfinite(agent.train(spoiled)["loss"])
    assert all(np.isfinite(array).all() for array in agent.state().values())
    assert np.isfinite(agent.train(_batch(rng, 2, BATCH))["loss"])


def test_more_rows_than_were_compiled_for_are_refused() -> None:
    with pytest.raises(ValueError, match=f"at most {BATCH}.*nothing was trained"):
        _agent().train(_batch(np.random.default_rng(5), 1, BATCH + 1))


def test_a_network_that_knows_nothing_loses_one() -> None:
    agent, rng = _agent(), np.random.default_rng(6)
    batch = _batch(rng, 1, BATCH)
    assert agent.train(batch)["loss"] == pytest.approx(1.0, rel=1e-4)


def test_what_few_decisions_say_is_believed_less_than_what_many_say() -> None:
    rng = np.random.default_rng(7)
    batch = _batch(rng, 60, BATCH)
    spread = {}
    for resident in (20, 300, 1_000_000):
        agent = _agent()
        for _ in range(5):
            agent.train(batch._replace(resident=resident))
        spread[resident] = float(agent.scores(batch.observation[0]).std())
    assert spread[20] < 0.5 * spread[300] < spread[300] < spread[1_000_000]
