"""What TF-Agents' linear bandit agents share here: everything but how they explore."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bakehouse_learner.agents.common.linear_statistics import LinearStatistics
from bakehouse_learner.agents.common.tf_agents_bridge import (
    constructor_specs,
    first_step_of,
    split_mask,
)
from bakehouse_learner.training.agent import Exported, Setup
from bakehouse_learner.training.batch import Batch, Rows
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.policy.policy import Head


class LinearAgent:
    """One of TF-Agents' linear bandit agents, its statistics recomputed rather than trained.

    Args:
        make: the agent's class.
        alpha: its exploration parameter.
        emits: what of its policy's info the scores are.
        head: the bundle's head, given the statistics.
    """

    learns_from_minibatches = False
    prioritised = False
    row_errors = None
    learns_from_ring = True

    def __init__(
        self,
        setup: Setup,
        make: Callable[..., Any],
        *,
        alpha: float,
        emits: Any,
        head: Callable[[LinearStatistics], Head],
    ) -> None:
        self._setup = setup
        self._actions = setup.application.shape.choices
        self._emits = str(emits)
        self._head = head
        self._width = setup.application.encoder.size + 1
        regularisation = float(setup.parameters["regularisation"])
        self.statistics = LinearStatistics(
            setup.application.agent.name,
            actions=self._actions,
            width=self._width,
            regularisation=regularisation,
        )
        self._agent = make(
            *constructor_specs(setup.application),
            alpha=alpha,
            tikhonov_weight=regularisation,
            add_bias=True,  # its constant feature is the last; the bundle's is the first
            emit_policy_info=(emits,),
            observation_and_action_constraint_splitter=split_mask,
            enable_summaries=False,
            dtype=tf.float64,  # sums over the ring; float32 loses the rare actions' digits
        )

    def train(self, batch: Batch) -> dict[str, float]:
        """Not this agent's way of learning."""
        raise TypeError(
            f"{self._setup.application.agent.name} recomputes its statistics from the ring (fit); "
            f"{len(batch.reward)} minibatches came; nothing was learned"
        )

    def fit(self, rows: Rows) -> dict[str, float]:
        """Recompute the statistics; see `LinearStatistics.fit`.

        Returns:
            `loss`: mean squared error of the refitted model on the rows, in the game's reward.
        """
        loss = self.statistics.fit(rows, self._features)
        self._tell_agent()
        return {"loss": loss}

    def _features(self, observation: np.ndarray) -> np.ndarray:
        """Normalised, with TF-Agents' constant at the end: `[n, D]` → float64 `[n, D + 1]`."""
        values = self._setup.normaliser.apply(observation).astype(np.float64)
        return np.concatenate([values, np.ones((len(values), 1))], axis=1)

    def _tell_agent(self) -> None:
        for variables, arrays in (
            (self._agent.cov_matrix, self.statistics.covariance),
            (self._agent.data_vector, self.statistics.vector),
            (self._agent.num_samples, self.statistics.count),
        ):
            for variable, array in zip(variables, arrays, strict=True):
                variable.assign(array)

    @property
    def variables(self) -> list[Any]:
        """Every TensorFlow variable that the scores depend on."""
        return list(self._agent.policy.variables())

    def score_tensor(self, observation: Any) -> Any:
        """TF-Agents' own predictions: float32 `[B, D]` → `[B, A]`."""
        offset, scale, clip = self._setup.normaliser
        values = tf.clip_by_value((observation - offset) * scale, -clip, clip)
        all_eligible = tf.ones([tf.shape(values)[0], self._actions], tf.bool)
        step = self._agent.policy.action(first_step_of(values, all_eligible))
        return tf.cast(getattr(step.info, self._emits), tf.float32)

    def scores(self, observation: np.ndarray) -> np.ndarray:
        """TensorFlow's own scores; the export must equal them."""
        return np.asarray(self.score_tensor(tf.constant(observation, tf.float32)))

    def export(self) -> Exported:
        """The linear head's arrays, the constant feature moved to the front."""
        front = np.roll(np.arange(self._width), 1)
        arrays = {
            "theta": self.statistics.theta()[:, front].astype(np.float32),
            "inverse": self.statistics.inverse()[:, front][:, :, front].astype(np.float32),
        }
        head = self._head(self.statistics)
        return Exported([], head, arrays | self._setup.normaliser.arrays())

    def state(self) -> Mapping[str, np.ndarray]:
        """The statistics of every action."""
        return self.statistics.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state()`; see `LinearStatistics.restore`."""
        self.statistics.restore(state)
        self._tell_agent()
