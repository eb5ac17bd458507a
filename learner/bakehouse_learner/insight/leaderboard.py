"""What is each choice worth? By importance weights, with the raw mean beside it.

A raw mean is of the contexts in which a policy liked the choice; weighted by 1 / propensity, all
contexts in which it could have been made count alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bakehouse_learner.insight.sums import WeightedSums

MOST = 40  # choices that are told, the most frequent ones


class Leaderboard:
    """Choices of one discrete action, or of one part of several.

    Args:
        names: of the choices.
        alpha: 1 − confidence, of each choice.
    """

    def __init__(self, names: Sequence[str], alpha: float) -> None:
        self._names = list(names)
        self._alpha = alpha
        self._raw = np.zeros((2, len(self._names)))  # decisions of policies; sum of their rewards
        self._worth = WeightedSums(len(self._names))

    def add(
        self, choice: np.ndarray, reward: np.ndarray, propensity: np.ndarray, support: np.ndarray
    ) -> None:
        """Take decisions of policies.

        Args:
            choice: int `[n]`
            reward: float64 `[n]`
            propensity: of this choice alone, float64 `[n]`
            support: where importance weights may be used, bool `[n]`
        """
        size = len(self._names)
        self._raw[0] += np.bincount(choice, minlength=size)
        self._raw[1] += np.bincount(choice, weights=reward, minlength=size)
        self._worth.add(choice[support], reward[support], 1.0 / propensity[support])

    def rows(self) -> list[dict[str, Any]]:
        """As JSON carries it, the best first; choices never made come last."""
        total = max(float(self._raw[0].sum()), 1.0)
        most = np.argsort(-self._raw[0], kind="stable")[:MOST].tolist()
        rows = [self._row(at, total) for at in most]
        return sorted(rows, key=lambda row: (row["mean"] is None, -(row["mean"] or 0.0)))

    def _row(self, at: int, total: float) -> dict[str, Any]:
        n = self._raw[0, at]
        return {
            "action": self._names[at],
            "n": int(n),
            "share": n / total,
            "raw_mean": self._raw[1, at] / n if n else None,
            **self._worth.bounds(at, self._alpha)._asdict(),
            "effective_sample": self._worth.effective_sample(at),
        }

    def state(self) -> dict[str, Any]:
        """Everything, in arrays."""
        return {"raw": self._raw.copy(), "worth": self._worth.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the board that gave `state` had never stopped. Raises ValueError."""
        if state["raw"].shape != self._raw.shape:
            raise ValueError(f"choices {state['raw'].shape}; expected {self._raw.shape}")
        self._raw = state["raw"].astype(np.float64)
        self._worth.restore(state["worth"])
