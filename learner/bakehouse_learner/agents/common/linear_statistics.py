"""Sums over the ring that a linear model of every action's reward is made from.

`A = Σ x xᵀ` and `b = Σ r x` of each action, recomputed from all rows, each row once: a row that
is added up twice counts twice, and shrinks what is still uncertain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from bakehouse_learner.training.batch import Rows

CHUNK = 16_384  # rows that are held as features at a time


class LinearStatistics:
    """Bayesian linear regression of each action's reward, its prior N(0, 1/λ).

    Args:
        name: of the agent, for what is said when rows are refused.
        width: numbers of a feature vector, the constant 1 included.
        regularisation: λ, Tikhonov's.
    """

    def __init__(self, name: str, *, actions: int, width: int, regularisation: float) -> None:
        self._name = name
        self._actions = actions
        self._width = width
        self._regularisation = regularisation
        self.covariance = np.zeros((actions, width, width))  # A, without λ
        self.vector = np.zeros((actions, width))  # b
        self.count = np.zeros(actions)
        self.square = 0.0  # Σ r²

    def fit(self, rows: Rows, features: Callable[[np.ndarray], np.ndarray]) -> float:
        """Recompute everything from these rows.

        Args:
            features: float32 `[n, D]` → float `[n, width]`, the constant 1 included.

        Returns:
            Mean squared error of the refitted model on the rows, in the game's reward.

        Raises:
            ValueError: a row is not finite, or an action is unknown; statistics are unchanged.
        """
        self._check(rows)
        covariance = np.zeros((self._actions, self._width, self._width))
        vector = np.zeros((self._actions, self._width))
        count = np.zeros(self._actions)
        square = 0.0
        for start in range(0, len(rows.action), CHUNK):
            chunk = slice(start, start + CHUNK)
            x = features(rows.observation[chunk])
            reward = rows.reward[chunk].astype(np.float64)
            square += float(reward @ reward)
            action = rows.action[chunk]
            order = np.argsort(action, kind="stable")
            x, reward = x[order], reward[order]
            present, starts = np.unique(action[order], return_index=True)
            for at, start_of, end_of in zip(
                present, starts, [*starts[1:], len(order)], strict=True
            ):
                mine = x[start_of:end_of]
                covariance[at] += mine.T @ mine
                vector[at] += reward[start_of:end_of] @ mine
                count[at] += len(mine)
        self.covariance, self.vector = covariance, vector
        self.count, self.square = count, square
        theta = self.theta()
        # Σ (r − θᵀx)² = Σ r² − 2 θᵀb + θᵀAθ
        residual = square - 2 * np.sum(theta * vector)
        residual += np.einsum("ai,aij,aj->", theta, covariance, theta)
        return max(float(residual), 0.0) / max(len(rows.action), 1)

    def inverse(self) -> np.ndarray:
        """`(A + λI)⁻¹` of every action, float64 `[A, W, W]`."""
        ridge = self._regularisation * np.eye(self._width)
        return np.asarray(np.linalg.inv(self.covariance + ridge))

    def theta(self) -> np.ndarray:
        """`(A + λI)⁻¹ b` of every action, float64 `[A, W]`."""
        return np.asarray(np.einsum("aij,aj->ai", self.inverse(), self.vector))

    def deviation(self) -> float:
        """Estimated standard deviation of a reward about its mean; 1 where nothing is known.

        `σ̂² = (Σ r² − Σ bᵀθ) / n`, what the normal inverse-gamma posterior grows by (Riquelme et
        al. 2018, https://arxiv.org/abs/1802.09127): unlike the residual it is not 0 while there
        are fewer rows than dimensions.
        """
        rows = self.count.sum()
        if not rows:
            return 1.0
        unexplained = self.square - float(np.sum(self.vector * self.theta()))
        return float(np.sqrt(max(unexplained, 0.0) / rows))

    def state(self) -> dict[str, np.ndarray]:
        """Copies of the sums."""
        return {
            "covariance": self.covariance.copy(),
            "vector": self.vector.copy(),
            "count": self.count.copy(),
            "square": np.array(self.square),
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
                f"this state is not of {self._name}: it has {came}, expected {expected}; the agent "
                "is as it was"
            )
        self.covariance = np.array(state["covariance"])
        self.vector = np.array(state["vector"])
        self.count = np.array(state["count"])
        self.square = float(state["square"])

    def _check(self, rows: Rows) -> None:
        sound = np.isfinite(rows.reward) & np.isfinite(rows.observation).all(axis=1)
        if not sound.all():
            raise ValueError(
                f"{self._name}: {int((~sound).sum())} of {len(sound)} rows are not finite (the "
                f"first is row {int(np.argmin(sound))}); one would spoil its action's statistics "
                "for good, so they stay as they were"
            )
        if len(rows.action) and not 0 <= rows.action.min() <= rows.action.max() < self._actions:
            raise ValueError(
                f"{self._name}: actions {rows.action.min()} to {rows.action.max()} came, expected "
                f"0 to {self._actions - 1}; statistics stay as they were"
            )
