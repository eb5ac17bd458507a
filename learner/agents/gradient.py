"""What all agents that learn by gradient steps share: everything but their loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from learner.agents.adapter import Exported, Setup
from learner.agents.networks import dense_layers, export_perceptron
from learner.batch import Batch, Rows
from learner.reward_scale import RewardScale
from learner.specs import Minibatch
from learner.tensorflow_setup import tf
from learner.training import Training
from schemas.policy import Head

ADAM_EPSILON = 1e-5  # larger than Keras's: near a perfect fit Adam would amplify rounding


class GradientAgent:
    """An agent whose policy is the argmax of a network's scores.

    Args:
        setup: application, normaliser, seed.
        network: TF-Agents network `[B, D]` → `[B, A]`, its variables created.
        loss: mean loss of one minibatch, scalar.
        learning_rate: Adam's.
        centred: whether rewards are learned as differences from their mean; false as soon as
            anything is bootstrapped.
        target: slower copy of the network.
        after_step: called in the graph after each step with the number of steps taken.
    """

    learns_from_minibatches = True
    learns_from_ring = False

    def __init__(
        self,
        setup: Setup,
        *,
        network: Any,
        loss: Callable[[Minibatch], Any],
        learning_rate: float,
        centred: bool,
        target: Any | None = None,
        after_step: Callable[[Any], None] = lambda _: None,
    ) -> None:
        self._setup = setup
        self._network = network
        networks = [network] if target is None else [network, target]
        self._optimiser = tf.keras.optimizers.legacy.Adam(learning_rate, epsilon=ADAM_EPSILON)
        self._optimiser._create_all_weights(network.trainable_weights)
        self._scale = RewardScale(centred=centred)
        self.training = Training(
            setup.application,
            loss=loss,
            variables=network.trainable_weights,
            optimiser=self._optimiser,
            last_layers=[dense_layers(net)[-1] for net in networks],
            after_step=after_step,
        )
        self._variables: dict[str, Any] = {"steps": self.training.steps}
        for kind, variables in (
            ("network", network.variables),
            ("target", target.variables if target is not None else ()),
            ("optimiser", self._optimiser.variables()),
        ):
            self._variables |= {f"{kind}/{at}": v for at, v in enumerate(variables)}

    def train(self, batch: Batch) -> dict[str, float]:
        """See `learner.training.Training`."""
        return self.training(batch, self._setup.normaliser, self._scale)

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
        offset, scale, clip = self._setup.normaliser
        values = tf.clip_by_value((observation - offset) * scale, -clip, clip)
        scores, _ = self._network(values)
        return scores * np.float32(self._scale.unit) + np.float32(self._scale.offset)

    def scores(self, observation: np.ndarray) -> np.ndarray:
        """TensorFlow's own scores; the export must equal them."""
        return np.asarray(self.score_tensor(tf.constant(observation, tf.float32)))

    def export(self) -> Exported:
        """The policy as plain arrays."""
        operations, arrays = export_perceptron(
            self._network, offset=self._scale.offset, unit=self._scale.unit
        )
        arrays |= self._setup.normaliser.arrays()
        return Exported(operations, Head(kind="argmax"), arrays)

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
