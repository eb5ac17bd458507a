"""Actions that are no labels, told apart by a few cells: what an estimate over labels can use.

A cell is what lies nearest to one of some logged actions, so cells are small where the log is
dense. Within a cell actions count as the same: where a policy is choosier than its cell, what it
would earn is taken for what the log earned there on average.
"""

from __future__ import annotations

import numpy as np

from schemas.actions import Shape
from schemas.exploration import Exploration
from schemas.propensity import Own, explored_own

MOST_CELLS = 24
DRAWS = 8  # that stand for a policy's distribution in one context


class ActionCells:
    """Cells of one action space.

    Args:
        shape: of numbers, or of parts.
        rows: logged actions, at least one, float64 `[n, W]`
    """

    def __init__(self, shape: Shape, rows: np.ndarray, *, most: int = MOST_CELLS) -> None:
        self._shape = shape
        logged = np.unique(self._placed(rows), axis=0)
        # farthest first (Gonzalez 1985): each next centre is what no centre is near to
        chosen = [int(np.argmin(np.sum((logged - logged.mean(axis=0)) ** 2, axis=1)))]
        distance = np.full(len(logged), np.inf)
        while len(chosen) < min(most, len(logged)):
            distance = np.minimum(distance, np.sum((logged - logged[chosen[-1]]) ** 2, axis=1))
            chosen.append(int(np.argmax(distance)))
        self._centres = logged[chosen]  # [K, P]

    def __len__(self) -> int:
        return len(self._centres)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Cell of each action, float64 `[n, W]` → int `[n]`."""
        placed = self._placed(rows)
        squared = np.sum(self._centres**2, axis=1) - 2.0 * placed @ self._centres.T  # [n, K]
        return np.asarray(squared.argmin(axis=1))

    def masses(self, own: Own, exploration: Exploration, rng: np.random.Generator) -> np.ndarray:
        """Share of each cell in what a policy does by itself, by a few draws. float64 `[n, K]`

        Args:
            own: of n contexts.
            exploration: its spread of numbers counts, its uniform share does not.
        """
        own = explored_own(self._shape, own, exploration)
        n = len(own.probabilities)
        masses = np.zeros((n, len(self)))
        for _ in range(DRAWS):
            masses[np.arange(n), self.of(self._drawn(own, rng))] += 1.0 / DRAWS
        return masses

    def _drawn(self, own: Own, rng: np.random.Generator) -> np.ndarray:
        shape, n = self._shape, len(own.probabilities)
        columns = []
        for start, stop in shape.segments:
            cumulative = own.probabilities[:, start:stop].cumsum(axis=1)
            at = cumulative < rng.random((n, 1)) * cumulative[:, -1:]
            columns.append(at.sum(axis=1).astype(float))
        numbers = rng.normal(own.mean, own.std) if shape.dims else own.mean
        if own.squashed:
            numbers = shape.low + (shape.high - shape.low) * (1.0 + np.tanh(numbers)) / 2
        return np.stack([*columns, *np.clip(numbers, shape.low, shape.high).T], axis=1)

    def _placed(self, rows: np.ndarray) -> np.ndarray:
        """Actions as points: another label, or a number's whole range, is 1 away. `[n, P]`"""
        shape, parts = self._shape, len(self._shape.segments)
        blocks = [
            np.sqrt(0.5) * (rows[:, part, None] == np.arange(stop - start))
            for part, (start, stop) in enumerate(shape.segments)
        ]
        return np.concatenate(
            [*blocks, (rows[:, parts:] - shape.low) / (shape.high - shape.low)], axis=1
        )
