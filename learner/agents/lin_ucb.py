"""`lin_ucb`: a linear model of every action's reward, optimistic where little is known."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from learner.agents.adapter import Agent, Exported, Setup
from learner.batch import Batch, Rows
from learner.specs import first_step_of, specs_of, split_mask
from learner.tensorflow_setup import POLICY_INFO, tf
from schemas.policy import Head

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the reasons stand in learner.tensorflow_setup
    from tf_agents.bandits.agents import lin_ucb_agent

CHUNK = 16_384  # rows that are held in float64 at a time


class LinUCB:
    """TF-Agents' LinearUCBAgent (Li et al. 2010, https://arxiv.org/abs/1003.0146).

    It adds up what it is given, and a row given twice counts twice, which shrinks the bonus. So
    its statistics are recomputed from the ring, each row once, rather than trained.
    """

    learns_from_ring = True

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        specs = specs_of(setup.application)
        self._actions = specs.actions
        self._width = setup.application.encoder.size + 1
        self._alpha = float(setup.parameters["alpha"])
        self._regularisation = float(setup.parameters["regularisation"])
        self._agent = lin_ucb_agent.LinearUCBAgent(
            specs.time_step,
            specs.action,
            alpha=self._alpha,
            tikhonov_weight=self._regularisation,
            add_bias=True,  # its constant feature is the last; the bundle's is the first
            emit_policy_info=(POLICY_INFO.PREDICTED_REWARDS_OPTIMISTIC,),
            observation_and_action_constraint_splitter=split_mask,
            enable_summaries=False,
            dtype=tf.float64,  # sums over the ring; float32 loses the rare actions' digits
        )

    def train(self, batch: Batch) -> dict[str, float]:
        """Not this agent's way of learning."""
        raise TypeError(
            f"lin_ucb recomputes its statistics from the ring (fit); {len(batch.reward)} "
            "minibatches came; nothing was learned"
        )

    def fit(self, rows: Rows) -> dict[str, float]:
        """Recompute `A = Σ x xᵀ` and `b = Σ r x` of every action from all rows.

        Returns:
            `loss`: mean squared error of the refitted model on the rows, in the game's reward.

        Raises:
            ValueError: a row is not finite, or an action is unknown; statistics are unchanged.
        """
        sound = np.isfinite(rows.reward) & np.isfinite(rows.observation).all(axis=1)
        if not sound.all():
            raise ValueError(
                f"lin_ucb: {int((~sound).sum())} of {len(sound)} rows are not finite (the first "
                f"is row {int(np.argmin(sound))}); one would spoil its action's statistics for "
                "good, so they stay as they were"
            )
        if len(rows.action) and not 0 <= rows.action.min() <= rows.action.max() < self._actions:
            raise ValueError(
                f"lin_ucb: actions {rows.action.min()} to {rows.action.max()} came, expected 0 to "
                f"{self._actions - 1}; statistics stay as they were"
            )
        covariance = np.zeros((self._actions, self._width, self._width))
        vector = np.zeros((self._actions, self._width))
        count = np.zeros(self._actions)
        square = 0.0
        for start in range(0, len(rows.action), CHUNK):
            chunk = slice(start, start + CHUNK)
            x = self._features(rows.observation[chunk])
            reward = rows.reward[chunk].astype(np.float64)
            square += float(reward @ reward)
            for action in np.unique(rows.action[chunk]):
                mine = rows.action[chunk] == action
                covariance[action] += x[mine].T @ x[mine]
                vector[action] += reward[mine] @ x[mine]
                count[action] += mine.sum()
        for action in range(self._actions):
            self._agent.cov_matrix[action].assign(covariance[action])
            self._agent.data_vector[action].assign(vector[action])
            self._agent.num_samples[action].assign(count[action])
        theta = np.einsum("aij,aj->ai", self._inverse(), vector)
        # Σ (r − θᵀx)² = Σ r² − 2 θᵀb + θᵀAθ
        residual = square - 2 * np.sum(theta * vector)
        residual += np.einsum("ai,aij,aj->", theta, covariance, theta)
        return {"loss": max(float(residual), 0.0) / max(len(rows.action), 1)}

    def _features(self, observation: np.ndarray) -> np.ndarray:
        """Normalised, with TF-Agents' constant at the end: `[n, D]` → float64 `[n, D + 1]`."""
        values = self._setup.normaliser.apply(observation).astype(np.float64)
        return np.concatenate([values, np.ones((len(values), 1))], axis=1)

    def _inverse(self) -> np.ndarray:
        """`(A + λI)⁻¹` of every action, float64 `[A, D + 1, D + 1]`."""
        covariance = np.stack([matrix.numpy() for matrix in self._agent.cov_matrix])
        return np.asarray(np.linalg.inv(covariance + self._regularisation * np.eye(self._width)))

    @property
    def variables(self) -> list[Any]:
        """Every TensorFlow variable that the scores depend on."""
        return list(self._agent.policy.variables())

    def score_tensor(self, observation: Any) -> Any:
        """TF-Agents' own optimistic predictions: float32 `[B, D]` → `[B, A]`."""
        offset, scale, clip = self._setup.normaliser
        values = tf.clip_by_value((observation - offset) * scale, -clip, clip)
        all_eligible = tf.ones([tf.shape(values)[0], self._actions], tf.bool)
        step = self._agent.policy.action(first_step_of(values, all_eligible))
        return tf.cast(step.info.predicted_rewards_optimistic, tf.float32)

    def scores(self, observation: np.ndarray) -> np.ndarray:
        """TensorFlow's own scores; the export must equal them."""
        return np.asarray(self.score_tensor(tf.constant(observation, tf.float32)))

    def export(self) -> Exported:
        """The linear head's arrays, the constant feature moved to the front."""
        front = np.roll(np.arange(self._width), 1)
        inverse = self._inverse()
        vector = np.stack([v.numpy() for v in self._agent.data_vector])
        theta = np.einsum("aij,aj->ai", inverse, vector)
        arrays = {
            "theta": theta[:, front].astype(np.float32),
            "inverse": inverse[:, front][:, :, front].astype(np.float32),
        }
        head = Head(kind="linear", alpha=self._alpha)
        return Exported([], head, arrays | self._setup.normaliser.arrays())

    def state(self) -> Mapping[str, np.ndarray]:
        """The statistics of every action."""
        agent = self._agent
        return {
            "covariance": np.stack([v.numpy() for v in agent.cov_matrix]),
            "vector": np.stack([v.numpy() for v in agent.data_vector]),
            "count": np.stack([v.numpy() for v in agent.num_samples]),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state()`.

        Raises:
            ValueError: the state is of another agent or other shapes; this one is unchanged.
        """
        expected = {name: array.shape for name, array in self.state().items()}
        came = {name: np.shape(array) for name, array in state.items()}
        if came != expected:
            raise ValueError(
                f"this state is not of {self._setup.application.agent!r}: it has {came}, expected "
                f"{expected}; the agent is as it was"
            )
        for name, variables in (
            ("covariance", self._agent.cov_matrix),
            ("vector", self._agent.data_vector),
            ("count", self._agent.num_samples),
        ):
            for variable, array in zip(variables, state[name], strict=True):
                variable.assign(array)


def build(setup: Setup) -> Agent:
    """The agent; see `LinUCB`."""
    return LinUCB(setup)
