"""Behavioural cloning: the demonstrator is matched, whatever came of what it did."""

from __future__ import annotations

import numpy as np

from tests.small_worlds import (
    BATCH,
    STEPS,
    demonstrated,
    learn,
    minibatches,
    policy_of,
    untrained,
)


def test_a_demonstrator_who_follows_the_context_is_matched_where_it_was_not_seen() -> None:
    agent, rng = untrained("bc"), np.random.default_rng(0)
    rows = demonstrated(rng, 2_000)
    rows = rows._replace(reward=-rows.reward)  # it does badly; that is not what is learned
    for _ in range(100):
        batch = minibatches(rows, rng.integers(0, 2_000, (STEPS, BATCH)))
        agent.train(batch._replace(resident=2_000))
    unseen = demonstrated(rng, 4_000)
    chosen = policy_of(agent, 3).distribution(unseen.observation, np.ones((4_000, 3), bool))
    assert np.mean(chosen.argmax(axis=1) == unseen.action) >= 0.95


def test_one_who_draws_is_matched_in_how_often() -> None:
    agent, rng = untrained("bc"), np.random.default_rng(1)
    rows = demonstrated(rng, 4_000)
    drawn = rng.choice(3, size=4_000, p=[0.6, 0.3, 0.1]).astype(np.int32)
    for _ in range(60):
        learn(agent, rows._replace(action=drawn), rng)
    found = policy_of(agent, 3).distribution(rows.observation, np.ones((4_000, 3), bool))
    np.testing.assert_allclose(found.mean(axis=0), [0.6, 0.3, 0.1], atol=0.05)


def test_an_action_that_could_not_be_chosen_says_nothing_about_who_chose() -> None:
    agent, rng = untrained("bc"), np.random.default_rng(2)
    rows = demonstrated(rng, 500)
    rows = rows._replace(action=np.full(500, 1, np.int32))
    for _ in range(20):
        batch = minibatches(rows, rng.integers(0, 500, (STEPS, BATCH)))
        batch.eligible[..., 2] = False  # 1 was chosen over 0; 2 was never there
        agent.train(batch)
    scores = policy_of(agent, 3).scores(rows.observation)
    assert (scores[:, 1] - scores[:, 0]).min() > 1
    np.testing.assert_allclose(scores[:, 2], 0.0, atol=1e-6)
