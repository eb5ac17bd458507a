"""`neural_linucb`: a linear model over what a network has learned to see, with its optimism."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bakehouse_learner.agents import neural_greedy
from bakehouse_learner.agents.common.gradient import GradientAgent
from bakehouse_learner.agents.common.linear_statistics import LinearStatistics
from bakehouse_learner.training.agent import Exported, Setup, TrainableAgent
from bakehouse_learner.training.batch import Batch, Rows
from bakehouse_learner.training.specs import specs_of
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.policy.network import compile_network
from bakehouse_schemas.policy.policy import Head

_LINEAR = "linear/"  # before the names of the statistics in the agent's state


class NeuralLinUCB:
    """LinUCB over the last hidden layer of `neural_greedy` (Riquelme et al. 2018).

    https://arxiv.org/abs/1802.09127. TF-Agents' agent of this name adds up each minibatch once,
    over features that go on changing; here the network learns from minibatches, and then the
    linear part is recomputed from the whole ring over what the network has become.
    """

    learns_from_minibatches = True
    learns_from_ring = True
    prioritised = False
    row_errors = None

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        network = neural_greedy.build(setup)
        assert isinstance(network, GradientAgent)
        self._network = network
        self._alpha = float(setup.parameters["alpha"])
        actions = specs_of(setup.application).actions
        width = 1 + network.export().arrays[self._last_weight()].shape[0]
        self._statistics = LinearStatistics(
            setup.application.agent.name,
            actions=actions,
            width=width,
            regularisation=float(setup.parameters["regularisation"]),
        )
        self._theta = tf.Variable(tf.zeros([actions, width]), trainable=False)
        self._inverse = tf.Variable(tf.zeros([actions, width, width]), trainable=False)
        self._follow()

    def train(self, batch: Batch) -> dict[str, float]:
        """Train the network; `fit` must follow, because the features have moved."""
        return self._network.train(batch)

    def fit(self, rows: Rows) -> dict[str, float]:
        """Recompute the linear part from all rows; see `LinearStatistics.fit`.

        Returns:
            `linear_loss`: mean squared error of the refitted model, in the game's reward.
        """
        operations, _, arrays = self._network.export()
        encode = compile_network(operations[:-1], arrays)

        def features(observation: np.ndarray) -> np.ndarray:
            values = encode(self._setup.normaliser.apply(observation))
            return np.concatenate([np.ones((len(values), 1), np.float32), values], axis=1)

        loss = self._statistics.fit(rows, features)
        self._follow()
        return {"linear_loss": loss}

    @property
    def variables(self) -> list[Any]:
        """Every TensorFlow variable that the scores depend on."""
        return [*self._network.variables, self._theta, self._inverse]

    def score_tensor(self, observation: Any) -> Any:
        """Optimistic rewards as a TensorFlow graph: float32 `[B, D]` → `[B, A]`."""
        x = self._network.features(observation)
        x = tf.concat([tf.ones_like(x[:, :1]), x], axis=1)
        mean = tf.linalg.matmul(x, self._theta, transpose_b=True)
        spread = tf.einsum("bi,aij,bj->ba", x, self._inverse, x)
        return mean + np.float32(self._alpha) * tf.sqrt(tf.maximum(spread, 0.0))

    def scores(self, observation: np.ndarray) -> np.ndarray:
        """TensorFlow's own scores; the export must equal them."""
        return np.asarray(self.score_tensor(tf.constant(observation, tf.float32)))

    def export(self) -> Exported:
        """The network up to its last hidden layer, and a linear head."""
        operations, _, arrays = self._network.export()
        last = operations[-1]
        arrays = {k: v for k, v in arrays.items() if k not in (last["weight"], last["bias"])}
        arrays |= {"theta": self._theta.numpy(), "inverse": self._inverse.numpy()}
        return Exported(operations[:-1], Head(kind="linear", alpha=self._alpha), arrays)

    def state(self) -> Mapping[str, np.ndarray]:
        """The network's, and the statistics of every action."""
        linear = {_LINEAR + name: array for name, array in self._statistics.state().items()}
        return {**self._network.state(), **linear}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state()`.

        Raises:
            ValueError: the state is of another agent or other shapes; this one is unchanged.
        """
        linear = {k.removeprefix(_LINEAR): v for k, v in state.items() if k.startswith(_LINEAR)}
        before = self._statistics.state()
        self._statistics.restore(linear)
        try:
            self._network.restore({k: v for k, v in state.items() if not k.startswith(_LINEAR)})
        except ValueError:
            self._statistics.restore(before)
            raise
        self._follow()

    def _follow(self) -> None:
        self._theta.assign(self._statistics.theta())
        self._inverse.assign(self._statistics.inverse())

    def _last_weight(self) -> str:
        return str(self._network.export().operations[-1]["weight"])


def build(setup: Setup) -> TrainableAgent:
    """The agent; see `NeuralLinUCB`."""
    return NeuralLinUCB(setup)
