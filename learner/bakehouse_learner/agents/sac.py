"""`sac`: a stochastic actor that climbs its critics and stays as random as it can afford."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from bakehouse_learner.agents.common.critics import Box, Critics, Draws, JudgedActor
from bakehouse_learner.agents.common.gradient import adam
from bakehouse_learner.agents.common.networks import perceptron
from bakehouse_learner.agents.common.readouts import Logits
from bakehouse_learner.agents.common.squashed import drawn, strain
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.compiled_steps import Update, counter
from bakehouse_learner.training.specs import Minibatch, specs_of
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.policy.policy import Head

STRAIN = 0.1
FIRST_TEMPERATURE = 0.1  # reward units: what randomness is worth before anything is known
ENTROPY_OF_A_NUMBER = -1.0  # over [−1, 1]: a spread of 4.5% of the range
NEXT_ACTION, ACTION, UNIFORM, OWN, OWN_NEXT = range(5)  # what is drawn, each by itself


class SoftParts:
    """What the losses of `sac`, and of agents that build on it, are made of."""

    def __init__(self, setup: Setup) -> None:
        application = setup.application
        self.dims, self.box = application.shape.dims, Box(application.shape)
        self.episodic = application.problem.kind == "episodic"
        self.actor = perceptron(setup, specs_of(application).values, 2 * self.dims)
        self.critics, self.steps = Critics(setup), counter()
        self.draws = Draws(setup, self.steps)
        first = tf.constant(math.log(FIRST_TEMPERATURE))
        self.log_temperature = tf.Variable(first, name="log_temperature")
        wanted = setup.parameters["target_entropy"]
        self.target_entropy = ENTROPY_OF_A_NUMBER * self.dims if wanted is None else float(wanted)

    def acting(self, values: Any, purpose: int, *, training: bool = False) -> tuple[Any, Any, Any]:
        """An action in [−1, 1], its log-density, and the actor's answer: `[B, d]`, `[B]`,
        `[B, 2d]`."""
        answer = self.actor(values, training=training)
        noise = self.draws.normal([values.shape[0], self.dims], purpose)
        return *drawn(answer, noise), answer

    def critic_loss(self, batch: Minibatch) -> Any:
        """Squared error of both critics; what follows is worth its randomness too."""
        wanted = batch.reward
        if self.episodic:
            action, log_density, _ = self.acting(batch.next_values, NEXT_ACTION)
            after = self.critics.least(batch.next_values, action, slower=True)
            after -= tf.exp(self.log_temperature) * log_density
            wanted += batch.discount * after
        return self.critics.errors(batch, self.box.inside(batch.action), wanted)

    def actor_loss(self, batch: Minibatch) -> Any:
        """`temperature · log π(a) − Q(a)`, a drawn from π."""
        action, log_density, answer = self.acting(batch.values, ACTION, training=True)
        worth = self.critics.least(batch.values, action)
        rows = tf.exp(self.log_temperature) * log_density - worth + STRAIN * strain(answer)
        return tf.reduce_mean(batch.weight * rows)

    def temperature_loss(self, batch: Minibatch) -> Any:
        """The temperature falls while the policy is more random than wanted, and rises else."""
        _, log_density, _ = self.acting(batch.values, ACTION)
        beyond = tf.stop_gradient(-log_density - self.target_entropy)
        return self.log_temperature * tf.reduce_mean(batch.weight * beyond)


def build(setup: Setup) -> TrainableAgent:
    """Soft actor-critic with its temperature learned (Haarnoja et al. 2018,
    https://arxiv.org/abs/1812.05905).

    Of a bandit problem nothing follows: the critics are the mean reward of an action.
    """
    parts = SoftParts(setup)
    return judged(setup, parts, parts.critic_loss)


def judged(
    setup: Setup, parts: SoftParts, critic_loss: Callable[[Minibatch], Any]
) -> TrainableAgent:
    """The agent of these parts; its critics learn by the loss given."""
    learning_rate = setup.parameters["learning_rate"]
    actor, temperature = parts.actor.trainable_weights, [parts.log_temperature]
    return JudgedActor(
        setup,
        actor=parts.actor,
        readout=Logits(Head(kind="tanh_gaussian")),
        critics=parts.critics,
        critic_loss=critic_loss,
        then=[
            Update(parts.actor_loss, actor, adam(learning_rate, actor)),
            Update(parts.temperature_loss, temperature, adam(learning_rate, temperature)),
        ],
        followed=[],
        kept={"temperature": temperature},
        steps=parts.steps,
    )
