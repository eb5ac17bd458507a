"""Twin critics of continuous actions: two networks that judge a context and an action together.

TF-Agents' Td3Agent, SacAgent and CqlSacAgent have these losses, and draw their noise from
TensorFlow's own random state, which no checkpoint holds; here every draw is a function of the
seed and of the steps taken, so that a learner that was killed goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bakehouse_learner.agents.common.gradient import NetworkAgent, adam
from bakehouse_learner.agents.common.keras_layers import hidden_layers
from bakehouse_learner.agents.common.networks import last_layer, network_of, target_of
from bakehouse_learner.agents.common.readouts import Readout
from bakehouse_learner.training.agent import Setup
from bakehouse_learner.training.compiled_steps import Training, Update
from bakehouse_learner.training.reward_scale import RewardScale
from bakehouse_learner.training.specs import Minibatch
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.application.shape import Shape

_SEED_OF_CRITICS = 1 << 20  # added to the actor's, so that all networks start apart
_INTEGERS = 1 << 31


class Critics:
    """Two critics and their slower copies, for the smaller of two opinions (Fujimoto et al. 2018).

    Values are in units of the reward's spread; see `bakehouse_learner.training.reward_scale`.
    """

    def __init__(self, setup: Setup) -> None:
        size = setup.application.encoder.size + setup.application.shape.dims
        self.networks = []
        for twin in (1, 2):
            own = replace(setup, seed=setup.seed + twin * _SEED_OF_CRITICS)
            spec = tf.TensorSpec([size], tf.float32, "values_and_action")
            hidden, last = hidden_layers(own, size), tf.keras.layers.Dense(1)
            self.networks.append(network_of(spec, hidden, last, seed=own.seed))
        self.targets = [target_of(network) for network in self.networks]

    @property
    def trained(self) -> list[Any]:
        """Variables that the loss is differentiated by."""
        return [v for network in self.networks for v in network.trainable_weights]

    def values(self, values: Any, action: Any, *, training: bool = False) -> list[Any]:
        """Each critic's opinion of actions in [−1, 1]: `[B, D]`, `[B, d]` → twice `[B]`."""
        together = tf.concat([values, action], axis=1)
        return [network(together, training=training)[:, 0] for network in self.networks]

    def least(self, values: Any, action: Any, *, slower: bool = False) -> Any:
        """The smaller opinion, likewise `[B]`; of the slower copies where asked."""
        together = tf.concat([values, action], axis=1)
        one, other = self.targets if slower else self.networks
        return tf.minimum(one(together)[:, 0], other(together)[:, 0])

    def errors(self, batch: Minibatch, action: Any, wanted: Any) -> Any:
        """Squared errors of both critics, added up and weighted, mean over the rows: scalar."""
        found = self.values(batch.values, action, training=True)
        squared = tf.add_n([(tf.stop_gradient(wanted) - values) ** 2 for values in found])
        return tf.reduce_mean(batch.weight * squared)


class Draws:
    """Random numbers that are a function of the seed, the purpose and the steps taken."""

    def __init__(self, setup: Setup, steps: Any) -> None:
        self._seed, self._steps = setup.seed % _INTEGERS, steps

    def _key(self, purpose: int) -> Any:
        # the counter has 2^48 steps, then purposes meet
        return tf.stack([tf.constant(self._seed, tf.int64), self._steps + (purpose << 48)])

    def normal(self, shape: list[int], purpose: int) -> Any:
        """Standard normal, float32."""
        return tf.random.stateless_normal(shape, self._key(purpose))

    def uniform(self, shape: list[int], purpose: int) -> Any:
        """Uniform in [−1, 1), float32."""
        return tf.random.stateless_uniform(shape, self._key(purpose), -1.0, 1.0)


class Box:
    """A box of numbers, of which networks see each from −1 to 1."""

    def __init__(self, shape: Shape) -> None:
        self._low = shape.low.astype(np.float32)
        self._half = ((shape.high - shape.low) / 2).astype(np.float32)

    def inside(self, action: Any) -> Any:
        """The game's numbers in [−1, 1]: float32 `[B, d]` → `[B, d]`."""
        return tf.clip_by_value((action - self._low) / self._half - 1.0, -1.0, 1.0)


class JudgedActor(NetworkAgent):
    """An actor whose answers twin critics judge; the actor alone is exported.

    Args:
        setup: application, normaliser, seed.
        actor: network `[B, D]` → `[B, K]`.
        readout: what its outputs mean.
        critics: with their slower copies.
        critic_loss: mean loss of one minibatch.
        then: what else is learned of it: the actor, at least.
        followed: pairs (network, slower copy), the critics' left out.
        kept: by name, other variables that training changes.
        steps: the counter that losses draw by.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        actor: Any,
        readout: Readout,
        critics: Critics,
        critic_loss: Callable[[Minibatch], Any],
        then: list[Update],
        followed: list[tuple[Any, Any]],
        kept: dict[str, Any],
        steps: Any,
    ) -> None:
        twins = list(zip(critics.networks, critics.targets, strict=True))
        optimiser = adam(setup.parameters["learning_rate"], critics.trained)
        tau = setup.parameters["target_update_tau"]

        def follow(_: Any) -> None:
            for network, target in (*twins, *followed):
                for variable, slower in zip(network.variables, target.variables, strict=True):
                    if variable.dtype == tf.float32:
                        slower.assign_add(tau * (variable - slower))

        training = Training(
            setup.application,
            loss=critic_loss,
            variables=critics.trained,
            optimiser=optimiser,
            last_layers=[last_layer(net) for pair in twins for net in pair],
            after_step=follow,
            then=then,
            steps=steps,
        )
        optimisers = [optimiser, *(update.optimiser for update in then)]
        networks = [net for pair in twins for net in pair] + [slower for _, slower in followed]
        super().__init__(
            setup,
            network=actor,
            readout=readout,
            scale=RewardScale(centred=setup.application.problem.kind == "bandit"),
            training=training,
            kept={
                **{f"critic-{at}": network.variables for at, network in enumerate(networks)},
                **{f"optimiser-{at}": each.variables() for at, each in enumerate(optimisers)},
                **kept,
            },
        )
