"""What agents on policy share: importance weights, advantages, and a critic that nobody exports.

Every row comes with the probability, or density, at which it was executed. So there is no need
to know the policies that decided, version 0 included: a row counts `π(a|x) / p_logged` times.
TF-Agents' PPOAgent and ReinforceAgent read whole trajectories, take their ratios against a
policy's own distribution, and know no masks and no parts; the losses here are on TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from bakehouse_learner.agents.common.executed import Executed
from bakehouse_learner.agents.common.gradient import NetworkAgent, adam
from bakehouse_learner.agents.common.networks import copy_to, last_layer, perceptron, target_of
from bakehouse_learner.agents.common.readouts import Logits
from bakehouse_learner.training.agent import Setup
from bakehouse_learner.training.batch import Batch
from bakehouse_learner.training.compiled_steps import Training, Update
from bakehouse_learner.training.reward_scale import RewardScale
from bakehouse_learner.training.specs import Minibatch, specs_of
from bakehouse_learner.training.tensorflow_setup import tf

# One row in place of so many: more would be a gamble on that row, and the likelier it became the
# more it would weigh. What is cut off errs towards the policy that decided (Ionides 2008; ρ̄ of
# V-trace, Espeholt et al. 2018). reinforce in a world of parts: a share of 0.65 at 10, 0.88 at 2.
MOST_WEIGHT = 2.0
STRAIN = 0.1
_LARGEST_LOG = 20.0
_CRITICS_SEED = 1 << 20  # added to the policy's, so that the two start apart


class Taken(NamedTuple):
    """What a policy's loss is made of: the actions of one minibatch, float32 `[B]` each."""

    log_ratio: Any  # log π(a|x) / p_logged of the policy as it is executed, with gradients
    log_before: Any  # the same of the policy before this training
    advantage: Any  # of mean 0 and deviation 1 over the minibatch


PolicyLoss = Callable[[Taken], Any]


class ActorCritic(NetworkAgent):
    """A policy and its critic: two networks, a loss for each.

    The critic learns what is earned under the policy: the squared error of the n-step return
    `R + γ^k V(next)`, each row with its importance weight, cut off. Advantage: what the return
    is above `V(now)`.

    Args:
        policy_loss: loss of each row, `[B]`
    """

    def __init__(self, setup: Setup, policy_loss: PolicyLoss) -> None:
        specs = specs_of(setup.application)
        executed = Executed(setup.application)
        network = perceptron(setup, specs.values, executed.width)
        critic = perceptron(replace(setup, seed=setup.seed + _CRITICS_SEED), specs.values, 1)
        self._before = target_of(network)
        bonus, rate = setup.parameters["entropy"], setup.parameters["learning_rate"]
        episodic = setup.application.problem.kind == "episodic"

        def log_ratio(answer: Any, batch: Minibatch) -> Any:
            found = executed.log_propensity(answer, batch) - tf.math.log(batch.propensity)
            return tf.clip_by_value(found, -_LARGEST_LOG, _LARGEST_LOG)

        def surprise(batch: Minibatch) -> Any:
            """What the return is above the critic's value, with gradients of the latter. `[B]`"""
            wanted = batch.reward
            if episodic:
                wanted += batch.discount * tf.stop_gradient(critic(batch.next_values)[:, 0])
            return wanted - critic(batch.values, training=True)[:, 0]

        def critic_loss(batch: Minibatch) -> Any:
            weight = importance(log_ratio(network(batch.values), batch))
            return tf.reduce_mean(batch.weight * weight * surprise(batch) ** 2)

        def actor_loss(batch: Minibatch) -> Any:
            answer = network(batch.values, training=True)
            taken = Taken(
                log_ratio=log_ratio(answer, batch),
                log_before=tf.stop_gradient(log_ratio(self._before(batch.values), batch)),
                advantage=_standardised(tf.stop_gradient(surprise(batch)), batch.weight),
            )
            rows = policy_loss(taken) - bonus * executed.entropy(answer, batch)
            return tf.reduce_mean(batch.weight * (rows + STRAIN * executed.strain(answer)))

        optimiser = adam(rate, critic.trainable_weights)
        actors = adam(rate, network.trainable_weights)
        super().__init__(
            setup,
            network=network,
            readout=Logits(executed.head),
            scale=RewardScale(centred=not episodic),
            training=Training(
                setup.application,
                loss=critic_loss,
                variables=critic.trainable_weights,
                optimiser=optimiser,
                last_layers=[last_layer(critic)],
                after_step=lambda _: None,
                then=[Update(actor_loss, network.trainable_weights, actors)],
            ),
            kept={
                "critic": critic.variables,
                "optimiser": optimiser.variables(),
                "policy_optimiser": actors.variables(),
            },
        )

    def train(self, batch: Batch) -> dict[str, float]:
        """See `bakehouse_learner.training.compiled_steps.Training`; `loss` is the critic's."""
        copy_to(self._network, self._before)
        return super().train(batch)


def importance(log_ratio: Any) -> Any:
    """Weight of a row, cut off at `MOST_WEIGHT`, without gradients: `[B]`."""
    return tf.stop_gradient(tf.minimum(tf.exp(log_ratio), MOST_WEIGHT))


def _standardised(advantage: Any, weight: Any) -> Any:
    """Mean 0 and deviation 1 over the rows that count; 0 where all are the same."""
    mean = tf.reduce_mean(weight * advantage)
    variance = tf.reduce_mean(weight * (advantage - mean) ** 2)
    return (advantage - mean) / tf.maximum(tf.sqrt(variance), 1e-6)
