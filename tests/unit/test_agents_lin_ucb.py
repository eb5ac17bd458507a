"""What is LinUCB's own: statistics of the ring, each row once."""

from __future__ import annotations

import numpy as np
import pytest

from bakehouse_learner.training.batch import Rows
from bakehouse_schemas.application.observation import Boolean
from tests.small_worlds import application_for, build, policy_of, tastes, untrained


def test_scores_are_those_of_the_formula_worked_by_hand() -> None:
    application = application_for(
        "lin_ucb", feature=Boolean("vip"), actions=2, alpha=2.0, regularisation=1.0
    )
    agent = build(application)
    agent.fit(Rows(np.ones((1, 1), np.float32), np.zeros(1, np.int32), np.ones(1, np.float32)))
    # action 0, x = (1, 1): A = [[2, 1], [1, 2]], A⁻¹ = [[2, −1], [−1, 2]] / 3, θ = (1, 1) / 3,
    # score = 2/3 + 2·√(2/3); action 1 has seen nothing: 0 + 2·√(xᵀx)
    expected = [[2 / 3 + 2 * np.sqrt(2 / 3), 2 * np.sqrt(2)]]
    vip = np.ones((1, 1), np.float32)
    np.testing.assert_allclose(agent.scores(vip), expected, rtol=1e-6)
    np.testing.assert_allclose(policy_of(agent, 2).scores(vip), expected, rtol=1e-6)


def test_fitting_the_same_rows_again_does_not_shrink_the_bonus() -> None:
    agent, rows = untrained("lin_ucb"), tastes(np.random.default_rng(0), 500)
    agent.fit(rows)
    once = agent.scores(rows.observation)
    for _ in range(20):
        agent.fit(rows)
    np.testing.assert_array_equal(agent.scores(rows.observation), once)


def test_statistics_are_exact_beyond_one_chunk_and_in_any_order() -> None:
    agent, rng = untrained("lin_ucb"), np.random.default_rng(1)
    rows = tastes(rng, 40_000)
    agent.fit(rows)
    state = agent.state()
    x = np.concatenate([rows.observation, np.ones((40_000, 1), np.float32)], axis=1)
    mine = x[rows.action == 2].astype(np.float64)
    np.testing.assert_allclose(state["covariance"][2], mine.T @ mine, rtol=1e-12)
    shuffled = rng.permutation(40_000)
    agent.fit(Rows(*(column[shuffled] for column in rows)))
    np.testing.assert_allclose(agent.state()["vector"], state["vector"], rtol=1e-12)


def test_the_loss_is_the_mean_squared_error_of_the_refitted_model() -> None:
    agent, rows = untrained("lin_ucb"), tastes(np.random.default_rng(2), 300)
    loss = agent.fit(rows)["loss"]
    theta = agent.export().arrays["theta"]
    x = np.concatenate([np.ones((300, 1), np.float32), rows.observation], axis=1)
    error = rows.reward - np.einsum("ni,ni->n", x, theta[rows.action])
    assert loss == pytest.approx(float(np.mean(error**2)), rel=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["reward", "observation"])
def test_a_row_that_is_not_finite_is_refused_and_changes_nothing(bad: float, where: str) -> None:
    agent, rows = untrained("lin_ucb"), tastes(np.random.default_rng(3), 100)
    agent.fit(rows)
    before = agent.state()
    spoiled = Rows(*(column.copy() for column in rows))
    getattr(spoiled, where)[17] = bad
    with pytest.raises(ValueError, match=r"1 of 100 rows are not finite .*row 17"):
        agent.fit(spoiled)
    for key, array in agent.state().items():
        np.testing.assert_array_equal(array, before[key], err_msg=key)


def test_an_action_that_does_not_exist_is_refused() -> None:
    agent, rows = untrained("lin_ucb"), tastes(np.random.default_rng(4), 10)
    rows.action[3] = 3
    with pytest.raises(ValueError, match="expected 0 to 2"):
        agent.fit(rows)


def test_no_rows_leave_an_agent_that_knows_nothing() -> None:
    agent = untrained("lin_ucb")
    agent.fit(tastes(np.random.default_rng(5), 50))
    empty = Rows(np.zeros((0, 3), np.float32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    assert agent.fit(empty) == {"loss": 0.0}
    assert not agent.state()["covariance"].any()
