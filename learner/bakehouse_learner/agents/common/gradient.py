"""What all agents that learn by gradient steps share: everything but their loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bakehouse_learner.agents.common.described import choice_arrays
from bakehouse_learner.agents.common.networks import copy_to, last_layer
from bakehouse_learner.agents.common.readouts import Readout, Values
from bakehouse_learner.training.agent import Exported, Setup
from bakehouse_learner.training.batch import Batch, Rows
from bakehouse_learner.training.compiled_steps import Training
from bakehouse_learner.training.reward_scale import RewardScale
from bakehouse_learner.training.specs import Minibatch
from bakehouse_learner.training.tensorflow_setup import tf

ADAM_EPSILON = 1e-5  # larger than Keras's: near a perfect fit Adam would amplify rounding


def adam(learning_rate: float, variables: Sequence[Any]) -> Any:
    """Adam, its slots created."""
    optimiser = tf.keras.optimizers.legacy.Adam(learning_rate, epsilon=ADAM_EPSILON)
    optimiser._create_all_weights(variables)
    return optimiser


class NetworkAgent:
    """An agent whose policy is a network and what its outputs mean.

    Args:
        setup: application, normaliser, seed.
        network: `[B, D]` → `[B, K]`.
        readout: what the network's outputs mean.
        scale: of the rewards that are trained on.
        training: compiled.
        kept: by name, the other variables that training changes.
    """

    learns_from_minibatches = True
    learns_from_ring = False
    prioritised = False

    def __init__(
        self,
        setup: Setup,
        *,
        network: Any,
        readout: Readout,
        scale: RewardScale,
        training: Training,
        kept: Mapping[str, Sequence[Any]],
    ) -> None:
        self._setup = setup
        self._network = network
        self._readout = readout
        self._scale = scale
        self.training = training
        self.row_errors: np.ndarray | None = None
        self._variables: dict[str, Any] = {"steps": training.steps}
        for kind, variables in (("network", network.variables), *kept.items()):
            self._variables |= {f"{kind}/{at}": v for at, v in enumerate(variables)}

    def train(self, batch: Batch) -> dict[str, float]:
        """See `bakehouse_learner.training.compiled_steps.Training`."""
        losses, self.row_errors = self.training(batch, self._setup.normaliser, self._scale)
        return losses

    def fit(self, rows: Rows) -> dict[str, float]:
        """Not this agent's way of learning."""
        raise TypeError(
            f"{self._setup.application.agent.name} learns from minibatches (train); {len(rows[0])} "
            "rows to fit came; nothing was learned"
        )

    @property
    def variables(self) -> list[Any]:
        """Every TensorFlow variable that the scores depend on."""
        return list(self._network.variables)

    def score_tensor(self, observation: Any) -> Any:
        """Scores as a TensorFlow graph: float32 `[B, D]` → `[B, A]`, in the game's reward."""
        return self._readout.scores(self._network(self._values(observation)), self._scale)

    def features(self, observation: Any) -> Any:
        """The last hidden layer, likewise: float32 `[B, D]` → `[B, H]`."""
        values = self._values(observation)
        for layer in self._network.layers[:-1]:
            values = layer(values)
        return values

    def _values(self, observation: Any) -> Any:
        offset, scale, clip = self._setup.normaliser
        return tf.clip_by_value((observation - offset) * scale, -clip, clip)

    def scores(self, observation: np.ndarray) -> np.ndarray:
        """TensorFlow's own scores; the export must equal them."""
        return np.asarray(self.score_tensor(tf.constant(observation, tf.float32)))

    def export(self) -> Exported:
        """The policy as plain arrays."""
        operations, head, arrays = self._readout.export(self._network, self._scale)
        arrays |= self._setup.normaliser.arrays() | choice_arrays(self._setup.application)
        return Exported(operations, head, arrays)

    def state(self) -> Mapping[str, np.ndarray]:
        """Weights, target, optimiser, steps and the reward's scale."""
        state = {name: variable.numpy() for name, variable in self._variables.items()}
        return state | {"reward_scale": self._scale.state()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue as if the agent that gave `state` had never stopped.

        Raises:
            ValueError: the state is of another agent or network; this one is unchanged.
        """
        expected = {name: tuple(v.shape) for name, v in self._variables.items()}
        expected["reward_scale"] = (3,)
        came = {name: np.shape(array) for name, array in state.items()}
        if came != expected:
            differing = sorted(k for k in came | expected if came.get(k) != expected.get(k))
            raise ValueError(
                f"this state is not of {self._setup.application.agent!r}: "
                + ", ".join(f"{k} {came.get(k)} (expected {expected.get(k)})" for k in differing)
                + "; the agent is as it was"
            )
        for name, variable in self._variables.items():
            variable.assign(state[name])
        self._scale.restore(state["reward_scale"])


class GradientAgent(NetworkAgent):
    """A network that one loss trains.

    Args:
        setup: application, normaliser, seed.
        network: `[B, D]` → `[B, K]`.
        loss: mean loss of one minibatch, scalar; where `prioritised`, with each row's |error|.
        learning_rate: Adam's.
        centred: whether rewards are learned as differences from their mean; false as soon as
            anything is bootstrapped.
        target: slower copy of the network, with `target_update_period` among the parameters.
        readout: what the network's outputs mean.
        prioritised: rows are drawn by their error; see `bakehouse_learner.training.priorities`.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        network: Any,
        loss: Callable[[Minibatch], Any],
        learning_rate: float,
        centred: bool,
        target: Any | None = None,
        readout: Readout | None = None,
        prioritised: bool = False,
    ) -> None:
        readout = readout or Values()
        self.prioritised = prioritised
        networks = [network] if target is None else [network, target]
        optimiser = adam(learning_rate, network.trainable_weights)
        training = Training(
            setup.application,
            loss=loss,
            variables=network.trainable_weights,
            optimiser=optimiser,
            last_layers=[last_layer(net) for net in networks] if readout.rewritten else [],
            after_step=_update_target(setup, network, target),
            prioritised=prioritised,
        )
        super().__init__(
            setup,
            network=network,
            readout=readout,
            scale=RewardScale(centred=centred),
            training=training,
            kept={
                "target": target.variables if target is not None else (),
                "optimiser": optimiser.variables(),
            },
        )


def _update_target(setup: Setup, network: Any, target: Any | None) -> Callable[[Any], None]:
    """What follows each step in the graph: the target is copied once in a period."""
    if target is None:
        return lambda _: None
    period = setup.parameters["target_update_period"]

    def update(steps: Any) -> None:
        def copy() -> Any:
            copy_to(network, target)
            return tf.constant(0)

        tf.cond(steps % period == 0, copy, lambda: tf.constant(0))

    return update
