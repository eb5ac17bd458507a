"""ppo and reinforce: what they weigh rows by, which rows they may see, and what their steps do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bakehouse_learner.agents.common.actor_critic import MOST_WEIGHT, Taken
from bakehouse_learner.agents.common.executed import Executed
from bakehouse_learner.agents.ppo import clipped
from bakehouse_learner.agents.reinforce import weighted
from bakehouse_learner.training.on_policy import recent, without_gaps
from bakehouse_learner.training.specs import Minibatch
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.application.actions import Continuous, Discrete, Parts
from bakehouse_schemas.application.application import (
    Agent,
    AgentsOwn,
    Application,
    EpsilonGreedy,
    Gaussian,
    Softmax,
    seconds,
)
from bakehouse_schemas.application.exploration import Explores
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.execution.propensity import propensities
from bakehouse_schemas.policy.policy import Policy
from tests.small_worlds import minibatches, policy_of, tastes, untrained

ROWS = 64
both = pytest.mark.parametrize("name", ["ppo", "reinforce"])
SPACES = {
    "discrete": (Discrete("a", "b", "c"), "a"),
    "continuous": (Continuous(low=[0, -5], high=[1, 20]), [0.5, 0.0]),
    "parts": (
        Parts({"size": Continuous(low=2, high=8), "mode": Discrete("x", "y"),
               "hat": Discrete("p", "q", "r")}),
        {"size": [3.0], "mode": "x", "hat": "q"},
    ),
}  # fmt: skip


def application_of(kind: str, exploration: Explores = AgentsOwn()) -> Application:  # noqa: B008
    actions, answer = SPACES[kind]
    return Application(
        name="exam",
        observation=[Numeric("x", low=0, high=1)],
        actions=actions,
        reward=Reward({"liked": 1.0}, window=seconds(10)),
        baseline=lambda context: answer,
        agent=Agent("ppo"),
        exploration=exploration,
    )


def drawn(application: Application, rng: np.random.Generator) -> tuple[Any, Minibatch, np.ndarray]:
    """A network's answers `[B, K]`, and logged actions as both sides want them."""
    shape = application.shape
    width = (shape.segments[-1][1] if shape.segments else 0) + 2 * shape.dims
    answer = rng.normal(0, 1, (ROWS, width)).astype(np.float32)
    eligible = np.ones((ROWS, shape.choices), bool)
    positions = [rng.integers(start, stop, ROWS) - start for start, stop in shape.segments]
    if shape.segments:
        start, _ = shape.segments[-1]
        masked = np.arange(ROWS) % 2 == 0
        eligible[masked, start] = False
        positions[-1] = np.where(masked, np.maximum(positions[-1], 1), positions[-1])
    numbers = rng.uniform(shape.low, shape.high, (ROWS, shape.dims))
    rows = np.stack([*positions, *numbers.T], axis=1).astype(np.float64)
    action = rows[:, 0].astype(np.int32) if shape.kind == "discrete" else rows.astype(np.float32)
    nothing = np.zeros(ROWS, np.float32)
    batch = Minibatch(
        values=nothing, eligible=eligible, action=action, reward=nothing, discount=nothing,
        next_values=nothing, next_eligible=eligible, weight=nothing + 1, propensity=nothing + 1,
        items=nothing,
    )  # fmt: skip
    return answer, batch, rows


def served(executed: Executed, application: Application, answer: np.ndarray) -> Policy:
    """A policy whose network answers row i of `answer` where the observation is one-hot i."""
    return Policy(
        operations=[{"op": "dense", "weight": "w", "bias": "b"}],
        head=executed.head,
        arrays={
            "normaliser_offset": np.zeros(ROWS, np.float32),
            "normaliser_scale": np.ones(ROWS, np.float32),
            "normaliser_clip": np.array(5.0, np.float32),
            "w": answer,
            "b": np.zeros(answer.shape[1], np.float32),
        },
        actions=application.shape,
    )


@pytest.mark.parametrize("kind", sorted(SPACES))
@pytest.mark.parametrize("exploration", [AgentsOwn(floor=0.03), AgentsOwn(floor=1e-9)])
def test_a_ratio_is_of_what_serving_would_execute(kind: str, exploration: AgentsOwn) -> None:
    application = application_of(kind, exploration)
    executed = Executed(application)
    answer, batch, rows = drawn(application, np.random.default_rng(0))
    own = served(executed, application, answer).base_policy(
        np.eye(ROWS, dtype="f4"), batch.eligible
    )
    final = application.exploration.after(1 << 40)
    expected = propensities(application.shape, own, batch.eligible, rows, final)
    found = np.exp(np.asarray(executed.log_propensity(answer, batch)))
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_exploration_that_mixes_uniform_choice_in_is_part_of_the_ratio() -> None:
    application = application_of("discrete", EpsilonGreedy(0.3, start=0.9))
    executed = Executed(application)
    answer, batch, _ = drawn(application, np.random.default_rng(1))
    answer[:] = [50.0, 0.0, 0.0]
    batch = batch._replace(eligible=np.ones((ROWS, 3), bool), action=np.zeros(ROWS, np.int32))
    found = np.exp(np.asarray(executed.log_propensity(answer, batch)))
    np.testing.assert_allclose(found, 0.7 + 0.1, rtol=1e-5)


@pytest.mark.parametrize("kind", sorted(SPACES))
def test_entropy_is_the_mean_of_minus_the_log_density_relative_to_the_box(kind: str) -> None:
    application = application_of(kind, AgentsOwn(floor=1e-9))
    executed = Executed(application)
    rng = np.random.default_rng(2)
    answer, batch, _ = drawn(application, rng)
    answer[:] = answer[1]  # one policy, without a mask, 64 times 64 draws of its own
    shape = application.shape
    batch = batch._replace(eligible=np.ones((ROWS, shape.choices), bool))
    own = served(executed, application, answer).base_policy(
        np.eye(ROWS, dtype="f4"), batch.eligible
    )
    logs = []
    for _ in range(64):
        columns = [
            rng.choice(stop - start, ROWS, p=own.probabilities[0, start:stop])
            for start, stop in shape.segments
        ]
        z = rng.normal(own.mean, np.maximum(own.std, 1e-300))
        numbers = shape.low + (shape.high - shape.low) * (1 + np.tanh(z)) / 2
        rows = np.stack([*columns, *numbers.T], axis=1)
        final = application.exploration.after(1 << 40)
        logs.append(np.log(propensities(shape, own, batch.eligible, rows, final)))
    box = float(np.sum(np.log(shape.high - shape.low)))
    expected, error = -np.mean(logs) - box, np.std(logs) / 64
    found = np.asarray(executed.entropy(answer, batch))
    assert found[0] == pytest.approx(expected, abs=4 * error + 0.01)


def test_numbers_at_the_very_ends_of_their_box_have_a_finite_ratio() -> None:
    application = application_of("continuous")
    executed = Executed(application)
    answer, batch, _ = drawn(application, np.random.default_rng(3))
    ends = np.where(np.arange(ROWS)[:, None] % 2, application.shape.high, application.shape.low)
    batch = batch._replace(action=ends.astype(np.float32))
    assert np.isfinite(np.asarray(executed.log_propensity(answer, batch))).all()


def test_rows_of_the_newest_policies_are_on_policy_and_version_0_is_a_policy_like_others() -> None:
    version = np.array([0, 0, 3, 4, 7, 7])
    sequence = np.arange(6)
    support = np.array([True, False, True, True, True, True])  # the second is of the holdout

    def of(most: int) -> list[bool]:
        return recent(version, sequence, support, most=most).tolist()

    assert of(1) == [False, False, False, True, True, True]
    assert of(2) == [False, False, True, True, True, True]
    assert of(3) == [True, False, True, True, True, True]
    assert of(50) == [True, False, True, True, True, True]


def test_while_nothing_newer_answers_all_of_version_0_is_on_policy() -> None:
    version = np.zeros(5, int)
    assert recent(version, np.arange(5), np.ones(5, bool), most=1).all()


def test_a_policy_that_was_rolled_back_to_is_the_newest_again() -> None:
    version = np.array([5, 8, 9, 5])
    found = recent(version, np.array([10, 11, 12, 13]), np.ones(4, bool), most=1)
    assert found.tolist() == [True, False, True, True]


def test_a_return_that_runs_over_somebody_elses_decision_is_left_out() -> None:
    # 0 → 1 → 2 → 3, returns of two steps; decision 2 was the game's own
    on_policy = np.array([True, True, False, True])
    following = np.array([1, 2, 3, -1])
    last = np.array([1, 2, 3, 3])
    assert without_gaps(on_policy, following, last).tolist() == [True, False, False, True]


@both
def test_a_row_counts_by_its_probability_against_that_at_which_it_was_logged(name: str) -> None:
    """Two actions of the same worth, one logged nine times as often: neither is preferred."""
    agent, rng = untrained(name), np.random.default_rng(4)
    rows = tastes(rng, 2_000)
    often = np.arange(2_000) % 10 > 0
    rows = rows._replace(
        observation=np.zeros_like(rows.observation),
        action=np.where(often, 0, 1).astype(np.int32),
        reward=(np.arange(2_000) % 20 < 10).astype(np.float32),
    )
    propensity = np.where(often, 0.9, 0.1).astype(np.float32)
    for _ in range(30):
        chosen = rng.integers(0, 2_000, (8, 32))
        agent.train(minibatches(rows, chosen)._replace(propensity=propensity[chosen]))
    found = policy_of(agent, 3).distribution(np.zeros((1, 3), np.float32), np.ones((1, 3), bool))
    assert 0.3 < found[0, 0] / found[0, :2].sum() < 0.7


def gradient(loss: Any, *, ratio: float, before: float, advantage: float) -> float:
    """d loss / d log π of one row, by the ratios of π, and of the policy before, to p_logged."""
    log_ratio = tf.constant([np.log(ratio)], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(log_ratio)
        row = loss(Taken(log_ratio, tf.constant([np.log(before)], tf.float32), advantage))
    found = tape.gradient(row, log_ratio)
    return float(found[0])


@pytest.mark.parametrize(
    ("ratio", "before", "advantage", "expected"),
    [
        (1.5, 1.5, 2.0, -1.5 * 2.0),  # at the start the row weighs before / p = 1.5
        (1.65, 1.5, 2.0, -1.5 * 1.1 * 2.0),
        (1.95, 1.5, 2.0, 0.0),  # a step of 1.3 towards what earned: far enough
        (1.95, 1.5, -2.0, 1.5 * 1.3 * 2.0),  # the wrong way: pulled back
        (0.75, 1.5, -2.0, 0.0),
        (90.0, 90.0, 2.0, -MOST_WEIGHT * 2.0),
    ],
)
def test_ppo_weighs_rows_by_who_decided_and_clips_its_own_step(
    ratio: float, before: float, advantage: float, expected: float
) -> None:
    found = gradient(
        lambda taken: clipped(taken, 0.2), ratio=ratio, before=before, advantage=advantage
    )
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("ratio", "expected"), [(0.5, -0.5 * 2.0), (1.9, -1.9 * 2.0), (90.0, -MOST_WEIGHT * 2.0)]
)
def test_reinforce_follows_the_weighted_policy_gradient(ratio: float, expected: float) -> None:
    found = gradient(weighted, ratio=ratio, before=1.0, advantage=2.0)
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("exploration", [Softmax(), Gaussian()])
def test_a_spread_that_the_agent_did_not_learn_is_refused(exploration: Explores) -> None:
    kind = "discrete" if isinstance(exploration, Softmax) else "parts"
    with pytest.raises(ApplicationError, match=r"learns how much to vary.*use AgentsOwn"):
        application_of(kind, exploration)
