"""`td3`: an actor that climbs what twin critics think of its answers; for numbers in a box."""

from __future__ import annotations

from typing import Any

from bakehouse_learner.agents.common.critics import Box, Critics, Draws, JudgedActor
from bakehouse_learner.agents.common.gradient import adam
from bakehouse_learner.agents.common.networks import perceptron, target_of
from bakehouse_learner.agents.common.readouts import Numbers
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.compiled_steps import Update, counter
from bakehouse_learner.training.specs import Minibatch, specs_of
from bakehouse_learner.training.tensorflow_setup import tf

# Where tanh is flat the critics' slope no longer reaches the actor: so far out, and no farther.
FARTHEST = 2.0
STRAIN = 0.1


def build(setup: Setup) -> TrainableAgent:
    """Twin delayed deterministic policy gradient (Fujimoto et al. 2018,
    https://arxiv.org/abs/1802.09477).

    Targets look at a noisy answer of the slower actor, kept in the box. Of a bandit problem
    nothing follows: the critics are the mean reward of an action, and the actor climbs it.
    """
    application, parameters = setup.application, setup.parameters
    dims, box = application.shape.dims, Box(application.shape)
    actor = perceptron(setup, specs_of(application).values, dims)  # before squashing
    slower = target_of(actor)
    critics, steps = Critics(setup), counter()
    draws = Draws(setup, steps)
    noise, most = parameters["target_noise"], parameters["target_noise_clip"]
    episodic = application.problem.kind == "episodic"

    def critic_loss(batch: Minibatch) -> Any:
        wanted = batch.reward
        if episodic:
            shift = noise * draws.normal([batch.reward.shape[0], dims], purpose=0)
            answer = tf.tanh(slower(batch.next_values)) + tf.clip_by_value(shift, -most, most)
            answer = tf.clip_by_value(answer, -1.0, 1.0)
            wanted += batch.discount * critics.least(batch.next_values, answer, slower=True)
        return critics.errors(batch, box.inside(batch.action), wanted)

    def actor_loss(batch: Minibatch) -> Any:
        before = actor(batch.values, training=True)  # [B, d]
        worth = critics.values(batch.values, tf.tanh(before))[0]
        strain = tf.reduce_sum(tf.nn.relu(tf.abs(before) - FARTHEST) ** 2, axis=1)
        return tf.reduce_mean(batch.weight * (STRAIN * strain - worth))

    actors = adam(parameters["learning_rate"], actor.trainable_weights)
    period = parameters["actor_update_period"]
    return JudgedActor(
        setup,
        actor=actor,
        readout=Numbers(),
        critics=critics,
        critic_loss=critic_loss,
        then=[Update(actor_loss, actor.trainable_weights, actors, period)],
        followed=[(actor, slower)],
        kept={},
        steps=steps,
    )
