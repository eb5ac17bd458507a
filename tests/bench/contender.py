"""One contender of `tests.bench.peers`, a process of its own.

It fills its buffer, compiles, and says that it is ready; then every line it reads is how many
minibatches to take, and every line it writes what they cost.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bakehouse_schemas.application.application import Agent, Episodic, Training
from tests.bench.game import application
from tests.bench.measure import cost_of
from tests.bench.transitions import Transitions, pairs_of, random_transitions

BUFFER = 50_000
BATCH = 256
DISCOUNT = 0.97
LEARNING_RATE = 1e-3
TARGET_PERIOD = 50  # gradient steps between copies to the target network
GRADIENT_NORM = 10.0
HIDDEN = [64, 64]
STEPS = 20  # of ours in one call
WARM_UP = 3 * TARGET_PERIOD

Train = Callable[[int], None]  # takes this many minibatches


def dqn(transitions: Transitions, threads: int | None) -> Train:
    """Ours: rows are drawn from the ring and trained on, call by call, as the learner does."""
    from bakehouse_learner.agents import build_agent
    from bakehouse_learner.replay.ring import Ring
    from bakehouse_learner.training.agent import Setup
    from bakehouse_learner.training.minibatches import draw_rows, gather
    from bakehouse_learner.training.normaliser import static_normaliser
    from bakehouse_learner.training.returns import Returns

    assert threads in (None, 1), (
        "bakehouse_learner.training.tensorflow_setup has one thread compute"
    )
    parameters = {
        "hidden": HIDDEN,
        "learning_rate": LEARNING_RATE,
        "target_update_period": TARGET_PERIOD,
    }
    found = replace(
        application,
        agent=Agent("dqn", **parameters),
        problem=Episodic(discount=DISCOUNT, n_step=1),
        training=Training(buffer=BUFFER, batch=BATCH, steps=STEPS),
    )
    normaliser = static_normaliser(found.encoder.bounds())
    assert normaliser is not None
    agent = build_agent(Setup(application=found, normaliser=normaliser, seed=0))
    ring = Ring(found)
    ring.observation, ring.action = transitions.observation, transitions.action
    ring.next_observation = transitions.next_observation
    ring.eligible = np.ones((BUFFER, len(found.actions)), bool)
    ring.next_eligible, ring.propensity = ring.eligible, np.ones(BUFFER)
    slots = np.arange(BUFFER)
    returns = Returns(
        reward=transitions.reward.astype(np.float64),
        discount=np.where(transitions.terminal, 0.0, DISCOUNT),
        last=slots,
        trainable=np.ones(BUFFER, bool),
    )
    rng = np.random.default_rng(0)

    def train(minibatches: int) -> None:
        for _ in range(-(-minibatches // STEPS)):
            [drawn] = draw_rows(slots[:0], slots, per_call=STEPS * BATCH, rng=rng)
            of_slots = Returns(*(values[drawn] for values in returns))
            agent.train(gather(ring, drawn, of_slots, steps=STEPS, batch=BATCH))

    return train


def sb3(transitions: Transitions, threads: int | None) -> Train:
    """Stable-Baselines3's DQN, by `model.train` on its own replay buffer."""
    # its logger would import TensorFlow, which has thread pools of its own, beside torch
    sys.modules["torch.utils.tensorboard"] = None  # type: ignore[assignment]
    import gymnasium
    import torch
    from stable_baselines3 import DQN
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.utils import polyak_update

    if threads is not None:
        torch.set_num_threads(threads)
    size = transitions.observation.shape[1]

    class Shape(gymnasium.Env[np.ndarray, np.int64]):
        """Never played: says what goes in and out."""

        observation_space = gymnasium.spaces.Box(0.0, 1.0, (size,), np.float32)
        action_space = gymnasium.spaces.Discrete(len(application.actions))

    model = DQN(
        "MlpPolicy",
        Shape(),
        learning_rate=LEARNING_RATE,
        buffer_size=BUFFER,
        batch_size=BATCH,
        gamma=DISCOUNT,
        max_grad_norm=GRADIENT_NORM,
        policy_kwargs={"net_arch": HIDDEN},
        seed=0,
        device="cpu",
    )
    model.set_logger(Logger(None, []))
    assert model.replay_buffer is not None
    for row in zip(*transitions, strict=True):
        observation, action, reward, terminal, following = (np.asarray(value) for value in row)
        model.replay_buffer.add(
            observation, following, action[None], reward[None], terminal[None], [{}]
        )

    def train(minibatches: int) -> None:
        for _ in range(-(-minibatches // TARGET_PERIOD)):
            model.train(gradient_steps=TARGET_PERIOD, batch_size=BATCH)
            # its own counts steps of the environment, and there are none
            polyak_update(model.q_net.parameters(), model.q_net_target.parameters(), 1.0)

    return train


def tf_agents_loop(transitions: Transitions, threads: int | None) -> Train:
    """TF-Agents' DdqnAgent, one `common.function(agent.train)` a minibatch."""
    os.environ["TF_USE_LEGACY_KERAS"] = (
        "1"  # not through bakehouse_learner.training.tensorflow_setup: it sets threads
    )
    warnings.simplefilter("ignore")
    import tensorflow as tf
    from tf_agents.agents.dqn import dqn_agent
    from tf_agents.networks import q_network
    from tf_agents.specs import tensor_spec
    from tf_agents.trajectories import time_step, trajectory
    from tf_agents.utils import common

    if threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    size, actions = transitions.observation.shape[1], len(application.actions)
    observation_spec = tf.TensorSpec([size], tf.float32)
    action_spec = tensor_spec.BoundedTensorSpec([], tf.int32, 0, actions - 1)
    agent = dqn_agent.DdqnAgent(
        time_step.time_step_spec(observation_spec),
        action_spec,
        q_network=q_network.QNetwork(observation_spec, action_spec, fc_layer_params=tuple(HIDDEN)),
        optimizer=tf.keras.optimizers.legacy.Adam(LEARNING_RATE),
        td_errors_loss_fn=common.element_wise_squared_loss,
        target_update_period=TARGET_PERIOD,
        gamma=DISCOUNT,
        gradient_clipping=GRADIENT_NORM,
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
    agent.initialize()
    step = common.function(agent.train)
    pairs = pairs_of(transitions)
    rng = np.random.default_rng(0)
    middle = np.full((BATCH, 2), time_step.StepType.MID, np.int32)

    def sampled(minibatches: int) -> Iterator[Any]:
        for _ in range(minibatches):
            rows = rng.integers(0, BUFFER, BATCH)
            yield trajectory.Trajectory(
                step_type=middle,
                observation=pairs.observation[rows],
                action=pairs.action[rows],
                policy_info=(),
                next_step_type=middle,
                reward=pairs.reward[rows],
                discount=pairs.discount[rows],
            )

    def train(minibatches: int) -> None:
        for experience in sampled(minibatches):
            step(tf.nest.map_structure(tf.convert_to_tensor, experience))

    return train


CONTENDERS: dict[str, Callable[[Transitions, int | None], Train]] = {
    "dqn": dqn,
    "sb3": sb3,
    "tf_agents_loop": tf_agents_loop,
}


def main() -> int:
    """Answer until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.contender", description=__doc__)
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("--threads", type=int, help="what computes; the library's choice otherwise")
    arguments = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")  # whatever a library prints goes to the log
    os.dup2(2, 1)
    transitions = random_transitions(
        BUFFER, size=application.encoder.size, actions=len(application.actions)
    )
    train = CONTENDERS[arguments.name](transitions, arguments.threads)
    train(WARM_UP)
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        with cost_of(os.getpid()) as cost:
            train(int(line))
        print(json.dumps([cost.cpu_s, cost.wall_s]), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
