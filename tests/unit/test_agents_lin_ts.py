"""What linear Thompson sampling has of its own: a posterior that narrows, in the reward's unit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bakehouse_learner.training.batch import Rows
from bakehouse_schemas.application.observation import Boolean
from tests.small_worlds import application_for, build, policy_of, tastes, untrained


def test_the_posterior_is_the_formula_worked_by_hand() -> None:
    agent = build(application_for("lin_ts", feature=Boolean("vip"), actions=2, scale=3.0))
    agent.fit(Rows(np.ones((1, 1), np.float32), np.zeros(1, np.int32), np.ones(1, np.float32)))
    # action 0, x = (1, 1): A = [[2, 1], [1, 2]], θ = (1, 1) / 3, mean 2/3, xᵀA⁻¹x = 2/3;
    # action 1 has seen nothing: mean 0, xᵀx = 2; σ̂² = Σr² − bᵀθ = 1/3 of one row
    vip = np.ones((1, 1), np.float32)
    np.testing.assert_allclose(agent.scores(vip), [[2 / 3, 0]], rtol=1e-6)
    assert agent.export().head.scale == pytest.approx(3 / math.sqrt(3))
    first = 0.5 * math.erfc(-(2 / 3) / math.sqrt(3 * (2 / 3 + 2)) / math.sqrt(2))
    (found,) = policy_of(agent, 2).distribution(vip, np.ones((1, 2), bool))
    assert found == pytest.approx([first, 1 - first], abs=1e-3)


def test_before_anything_is_known_every_action_is_equally_probable() -> None:
    policy = policy_of(untrained("lin_ts"), 3)
    found = policy.distribution(np.zeros((1, 3), np.float32), np.ones((1, 3), bool))
    np.testing.assert_allclose(found, 1 / 3, rtol=1e-6)


def test_the_unit_of_reward_changes_no_probability() -> None:
    agent, rows = untrained("lin_ts"), tastes(np.random.default_rng(0), 60)
    observation, eligible = rows.observation[:20], np.ones((20, 3), bool)
    agent.fit(rows)
    cents = policy_of(agent, 3).distribution(observation, eligible)
    agent.fit(rows._replace(reward=rows.reward * np.float32(1_000)))
    np.testing.assert_allclose(policy_of(agent, 3).distribution(observation, eligible), cents, 1e-3)


def test_an_agent_grows_surer_the_more_it_has_seen() -> None:
    agent, rng = untrained("lin_ts"), np.random.default_rng(1)
    rows = tastes(rng, 3_000)
    observation, eligible = rows.observation[:200], np.ones((200, 3), bool)
    surest = []
    for read in (100, 1_000, 3_000):
        agent.fit(Rows(*(column[:read] for column in rows)))
        surest.append(policy_of(agent, 3).distribution(observation, eligible).max(axis=1).mean())
    assert 0.5 < surest[0] < surest[1] < surest[2] < 1
