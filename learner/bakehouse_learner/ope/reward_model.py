"""The reward model behind the gate: ridge regression of each action's reward.

It carries the doubly robust estimate where an action was not taken. It need not be right: what
it gets wrong, the importance-weighted residual corrects. Pure NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


class RewardModel:
    """Ridge on `[1, x]` for each action, from sufficient statistics.

    An action with few rows is shrunk to the mean reward of all actions, not to 0. Predictions
    stay within the rewards seen, so an unusual context cannot extrapolate.

    Args:
        actions: number of actions, A.
        width: dimensions of a normalised observation, D.
        ridge: rows' worth of shrinkage towards the common mean.
    """

    def __init__(self, actions: int, width: int, *, ridge: float = 1.0) -> None:
        if ridge <= 0:
            raise ValueError(f"ridge is {ridge}: expected above 0, else rare actions are singular")
        self._ridge = ridge
        self._gram = np.zeros((actions, 1 + width, 1 + width))  # Σ x xᵀ
        self._moment = np.zeros((actions, 1 + width))  # Σ x r
        self._count = 0
        self._total = 0.0
        self._least = np.inf
        self._most = -np.inf
        self._theta: np.ndarray | None = None  # solved when next asked for

    @property
    def n(self) -> int:
        """Rows taken."""
        return self._count

    def update(self, observation: np.ndarray, action: np.ndarray, reward: np.ndarray) -> int:
        """Take matured rows; those that hold a value that is not finite are left out.

        Args:
            observation: normalised, float `[B, D]`
            action: int `[B]`, from 0 to A − 1
            reward: float `[B]`

        Returns:
            How many rows were left out.
        """
        x = _with_one(observation)
        reward = np.asarray(reward, dtype=np.float64)
        usable = np.isfinite(reward) & np.all(np.isfinite(x), axis=1)
        refused = int(np.sum(~usable))
        x, action, reward = x[usable], np.asarray(action)[usable], reward[usable]
        if len(reward) == 0:
            return refused
        for taken in np.unique(action):
            rows = action == taken
            self._gram[taken] += x[rows].T @ x[rows]
            self._moment[taken] += reward[rows] @ x[rows]
        self._count += len(reward)
        self._total += float(np.sum(reward))
        self._least = min(self._least, float(np.min(reward)))
        self._most = max(self._most, float(np.max(reward)))
        self._theta = None
        return refused

    def predict(self, observation: np.ndarray) -> np.ndarray:
        """Mean reward of every action: normalised observations float `[B, D]` → float64 `[B, A]`.

        Zeros before the first row.
        """
        actions = len(self._moment)
        if self._count == 0:
            return np.zeros((len(observation), actions))
        predicted = _with_one(observation) @ self._solved().T  # [B, A]
        return np.asarray(np.clip(predicted, self._least, self._most))

    def coefficients(self) -> np.ndarray:
        """Of `[1, x]`, for every action: float64 `[A, 1 + D]`. Some row must have been taken."""
        return self._solved().copy()

    def _solved(self) -> np.ndarray:
        if self._theta is None:
            prior = np.zeros(self._moment.shape[1])
            prior[0] = self._total / self._count
            self._theta = np.linalg.solve(
                self._gram + self._ridge * np.eye(len(prior)),
                (self._moment + self._ridge * prior)[:, :, None],
            )[:, :, 0]
        return self._theta

    def state(self) -> dict[str, np.ndarray]:
        """Everything, for a checkpoint."""
        return {
            "gram": self._gram.copy(),
            "moment": self._moment.copy(),
            "scalars": np.array([self._count, self._total, self._least, self._most]),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue as if the model that gave `state` had never stopped.

        Raises:
            ValueError: the state is of another number of actions or dimensions.
        """
        if state["gram"].shape != self._gram.shape:
            raise ValueError(
                f"the saved reward model has shape {state['gram'].shape}, expected "
                f"{self._gram.shape}; this one is unchanged"
            )
        self._gram = np.array(state["gram"], dtype=np.float64)
        self._moment = np.array(state["moment"], dtype=np.float64)
        count, total, least, most = (float(value) for value in state["scalars"])
        self._count, self._total, self._least, self._most = int(count), total, least, most
        self._theta = None


def _with_one(observation: np.ndarray) -> np.ndarray:
    ones = np.ones((len(observation), 1))
    return np.concatenate([ones, np.asarray(observation, dtype=np.float64)], axis=1)
