"""Prioritised replay: rows that are predicted badly are seen more often, and weigh less each time.

Proportional prioritisation (Schaul et al. 2016, https://arxiv.org/abs/1511.05952):
`P(i) ∝ (|δ_i| + ε)^α`, with importance weights `1 / (n P(i))`. The weights correct in full
(β = 1), so that what is learned stays the mean over all resident rows and only its noise differs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

ALPHA = 0.5  # as in Rainbow (Hessel et al. 2018)
EPSILON = 0.01  # in reward units about one: a row predicted exactly is still seen
# of the mean row: a row's weight is cut here, since one of many times the others' is only noise
MOST_WEIGHT = 10.0


class Priorities:
    """|error| of each resident row when it was last trained on, by slot."""

    def __init__(self) -> None:
        self._error = np.zeros(0, np.float32)  # [C]
        self._sequence = np.zeros(0, np.int64)  # whose error it is [C]; −1: nobody's

    def probabilities(self, slots: np.ndarray, sequences: np.ndarray) -> np.ndarray:
        """Probability with which each row is to be drawn; the largest for rows not seen yet.

        Args:
            slots: of the rows to draw from, int `[t]`, t ≥ 1
            sequences: whose decisions are in these slots now, int64 `[t]`

        Returns:
            float64 `[t]`, sums to 1.
        """
        self._grow(int(slots.max()) + 1)
        known = self._sequence[slots] == sequences
        error = self._error[slots].astype(np.float64)
        error[~known] = error[known].max(initial=0.0) if known.any() else 1.0
        priority = (error + EPSILON) ** ALPHA
        return np.asarray(priority / priority.sum())

    def update(self, slots: np.ndarray, sequences: np.ndarray, errors: np.ndarray) -> None:
        """Remember |error| of rows just trained on; those not finite are passed over. All `[n]`."""
        sound = np.isfinite(errors)
        slots = slots[sound]
        if len(slots):
            self._grow(int(slots.max()) + 1)
            self._error[slots], self._sequence[slots] = errors[sound], sequences[sound]

    def state(self) -> dict[str, np.ndarray]:
        """float32 `[C]` and int64 `[C]`, copies."""
        return {"error": self._error.copy(), "sequence": self._sequence.copy()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state()`."""
        self._error = np.array(state["error"], np.float32)
        self._sequence = np.array(state["sequence"], np.int64)

    def _grow(self, size: int) -> None:
        if size > len(self._error):
            more = max(size, 2 * len(self._error)) - len(self._error)
            self._error = np.concatenate([self._error, np.zeros(more, np.float32)])
            self._sequence = np.concatenate([self._sequence, np.full(more, -1)])


def importance(probabilities: np.ndarray) -> np.ndarray:
    """Weight of each row, mean about 1 over draws: `1 / (n P(i))`, cut. float32 `[n]`"""
    return np.minimum(1.0 / (len(probabilities) * probabilities), MOST_WEIGHT).astype(np.float32)
