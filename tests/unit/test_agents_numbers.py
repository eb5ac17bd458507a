"""The losses of agents of numbers: held against TF-Agents' own, and against numbers by hand."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

from bakehouse_learner.agents.bc import truncated_normal
from bakehouse_learner.agents.common.critics import Box, Critics, Draws
from bakehouse_learner.agents.common.squashed import drawn, strain
from bakehouse_learner.agents.cql import conservative_gap
from bakehouse_learner.agents.sac import SoftParts
from bakehouse_learner.training.agent import Setup
from bakehouse_learner.training.compiled_steps import counter
from bakehouse_learner.training.normaliser import static_normaliser
from bakehouse_learner.training.specs import Minibatch
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.application.actions import Continuous
from bakehouse_schemas.application.application import Bandit, Episodic
from bakehouse_schemas.execution.base_policy import BasePolicy
from bakehouse_schemas.execution.propensity import propensities
from tests.small_worlds import application_for

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore"
    )  # the reasons stand in bakehouse_learner.training.tensorflow_setup
    from tf_agents.agents.td3 import td3_agent
    from tf_agents.networks import network
    from tf_agents.specs import tensor_spec
    from tf_agents.trajectories import time_step

ROWS = 16


def setup_of(name: str, problem: Any = Bandit()) -> Setup:  # noqa: B008 - frozen
    application = application_for(name, kind="continuous", problem=problem, hidden=[8])
    normaliser = static_normaliser(application.encoder.bounds())
    assert normaliser is not None
    return Setup(application, normaliser, 0)


def minibatch() -> Minibatch:
    rng = np.random.default_rng(0)

    def floats(*shape: int) -> Any:
        return tf.constant(rng.uniform(-1, 1, shape), tf.float32)

    return Minibatch(
        values=floats(ROWS, 3),
        eligible=tf.ones([ROWS, 1], tf.bool),
        action=15.0 + 5.0 * floats(ROWS, 1),
        reward=floats(ROWS),
        discount=tf.constant(rng.choice([0.0, 0.9], ROWS), tf.float32),
        next_values=floats(ROWS, 3),
        next_eligible=tf.ones([ROWS, 1], tf.bool),
        weight=tf.ones([ROWS]),
        propensity=tf.ones([ROWS]),
        items=tf.zeros([ROWS, 0, 0]),
    )


def moved(networks: list[Any]) -> None:
    """Last layers begin at zero; somewhere else more can be told apart."""
    rng = np.random.default_rng(7)
    for net in networks:
        for variable in net.variables:
            variable.assign(rng.normal(0, 0.3, variable.shape))


def test_densities_of_draws_are_those_that_serving_logs() -> None:
    answer = tf.constant([[0.4, -1.0], [-2.0, 0.5], [5.0, -3.0]])
    noise = tf.constant([[0.3], [-1.2], [1.0]])
    action, log_density = drawn(answer, noise)
    shape = Continuous(low=-1, high=1).shape
    mean, log_std = np.split(answer.numpy().astype(float), 2, axis=1)
    own = BasePolicy(np.ones((3, 1)), mean, np.exp(log_std), squashed=True)
    exploration = application_for("sac", kind="continuous").exploration.after(1)
    quiet = exploration.model_copy(update={"floor": 0.0})
    # atanh in float64 of a float32 number: the last row is next to the end of its box
    logged = propensities(shape, own, np.ones((3, 1), bool), action.numpy().astype(float), quiet)
    np.testing.assert_allclose(np.exp(log_density[:2]), logged[:2], rtol=1e-4)
    assert np.isfinite(log_density).all()


def test_draws_are_a_function_of_seed_steps_and_purpose() -> None:
    steps = counter()
    one, again = (Draws(setup_of("sac"), steps) for _ in range(2))
    first = one.normal([4, 2], purpose=0)
    np.testing.assert_array_equal(first, again.normal([4, 2], purpose=0))
    assert not np.array_equal(first, one.normal([4, 2], purpose=1))
    steps.assign_add(1)
    assert not np.array_equal(first, one.normal([4, 2], purpose=0))


def test_numbers_are_seen_from_minus_one_to_one() -> None:
    box = Box(Continuous(low=[10, -30], high=[20, 30]).shape)
    np.testing.assert_allclose(
        box.inside(tf.constant([[10.0, 0.0], [17.5, 30.0], [99.0, -99.0]])),
        [[-1, 0], [0.5, 1], [1, -1]],
    )


class _Judge(network.Network):  # type: ignore[misc]  # TensorFlow has no types
    """One of our critics as TF-Agents' agents ask for it."""

    def __init__(self, net: Any, spec: Any) -> None:
        super().__init__(spec, state_spec=(), name="Judge")
        self._net = net

    def call(
        self, inputs: Any, step_type: Any = None, state: Any = (), training: bool = False
    ) -> Any:
        return self._net(tf.concat(inputs, axis=1), training=training)[:, 0], state

    def copy(self, **_: Any) -> Any:
        raise AssertionError("targets are given")


def test_the_critics_of_td3_lose_what_those_of_tf_agents_lose() -> None:
    """Without noise on the target, which TF-Agents draws from a state that nobody saves."""
    setup = setup_of("td3", Episodic())
    critics, batch = Critics(setup), minibatch()
    moved([*critics.networks, *critics.targets])
    after = tf.tanh(batch.next_values[:, :1])
    wanted = batch.reward + batch.discount * critics.least(batch.next_values, after, slower=True)
    ours = critics.errors(batch, Box(setup.application.shape).inside(batch.action), wanted)

    values, number = (
        tf.TensorSpec([3], tf.float32),
        tensor_spec.BoundedTensorSpec([1], tf.float32, -1, 1),
    )
    judges = [_Judge(net, (values, number)) for net in (*critics.networks, *critics.targets)]

    class Actor(network.Network):  # type: ignore[misc]
        def call(
            self, values: Any, step_type: Any = None, state: Any = (), training: bool = False
        ) -> Any:
            return tf.tanh(values[:, :1]), state

    actors = [Actor(values, state_spec=(), name=f"Actor{at}") for at in range(2)]
    theirs = td3_agent.Td3Agent(
        time_step.time_step_spec(values),
        number,
        actor_network=actors[0],
        target_actor_network=actors[1],
        critic_network=judges[0],
        critic_network_2=judges[1],
        target_critic_network=judges[2],
        target_critic_network_2=judges[3],
        actor_optimizer=None,
        critic_optimizer=None,
        target_policy_noise=0.0,
        td_errors_loss_fn=tf.math.squared_difference,
    )
    middle = tf.ones([ROWS], tf.int32)
    now = time_step.TimeStep(middle, batch.reward, batch.discount, batch.values)
    then = time_step.TimeStep(middle, batch.reward, batch.discount, batch.next_values)
    action = Box(setup.application.shape).inside(batch.action)
    found = theirs.critic_loss(now, action, then, weights=batch.weight)
    assert float(ours) == pytest.approx(float(found), rel=1e-5)


def test_the_conservative_gap_is_the_integral_worked_by_quadrature() -> None:
    """`log ∫ exp Q(x, a) da − Q(x, logged)` of both critics; many draws of it, on average."""
    setup = setup_of("cql")
    parts, batch = SoftParts(setup), minibatch()
    moved([*parts.critics.networks, parts.actor])
    grid = np.linspace(-1, 1, 401, dtype=np.float32)
    wanted = np.zeros(ROWS)
    logged = parts.critics.values(batch.values, parts.box.inside(batch.action))
    for row in range(ROWS):
        seen = tf.tile(batch.values[row : row + 1], [len(grid), 1])
        for q, mine in zip(parts.critics.values(seen, grid[:, None]), logged, strict=True):
            integral = np.trapezoid(np.exp(q.numpy().astype(float)), grid)
            wanted[row] += math.log(integral) - float(mine[row])
    gap = tf.function(lambda: conservative_gap(parts, batch), autograph=False)
    found = []
    for _ in range(300):
        parts.steps.assign_add(1)
        found.append(gap().numpy())
    # a logarithm of a mean of 8 draws lies a little below that of the integral
    np.testing.assert_allclose(np.mean(found, axis=0), wanted, atol=0.12)


def test_the_temperature_falls_while_the_policy_is_more_random_than_wanted() -> None:
    parts, batch = SoftParts(setup_of("sac")), minibatch()
    slopes = []
    for log_std in (0.0, -5.0):  # entropy about log 2, and far below −1
        parts.actor.layers[-1].bias.assign([0.0, log_std])
        with tf.GradientTape() as tape:
            loss = parts.temperature_loss(batch)
        slopes.append(float(tape.gradient(loss, parts.log_temperature)))
    assert slopes[0] > 0 > slopes[1]  # descent goes against the slope


def test_nothing_strains_where_tanh_still_has_a_slope() -> None:
    found = strain(tf.constant([[2.0, -1.0], [4.5, -1.0], [0.0, -4.5], [0.0, 1.0]]))
    np.testing.assert_allclose(found, [0.0, 4.0, 1.0, 1.0])


def test_a_truncated_normal_adds_up_to_one() -> None:
    grid = np.linspace(-1, 1, 2_001, dtype=np.float32)
    for mean, std in ((0.0, 0.1), (0.9, 0.3), (-1.0, 2.0)):
        density = truncated_normal(tf.constant(grid), mean, tf.constant(std)).numpy()
        assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=1e-3)
