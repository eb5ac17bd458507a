"""An action space in numbers: what remains when the names are taken away.

Policies and propensities need no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Shape(NamedTuple):
    """An action space in numbers alone.

    Args:
        kind: `discrete`, `continuous`, `parts` or `ranking`.
        choices: what a mask covers: labels (of all parts, one after the other) or items. A
            continuous space has one, which is always eligible.
        segments: (start, stop) of each discrete part among the choices.
        low, high: bounds of the continuous numbers. float64 `[d]`
        slots: places of a ranking; 0 elsewhere.
        features: numbers that describe an item (or an action); 0: none.
    """

    kind: str
    choices: int
    segments: tuple[tuple[int, int], ...]
    low: np.ndarray
    high: np.ndarray
    slots: int = 0
    features: int = 0

    @property
    def dims(self) -> int:
        """Bounded numbers of an action, d."""
        return len(self.low)

    @property
    def most_choices(self) -> int:
        """Most labels, or items, that one draw is from; 0: numbers alone."""
        if self.slots:
            return self.choices
        return max((stop - start for start, stop in self.segments), default=0)

    @property
    def width(self) -> int:
        """Numbers of an action's row, W: positions of the discrete parts (or of the ranked
        items), then the bounded numbers."""
        return self.slots or len(self.segments) + self.dims

    @property
    def draws(self) -> int:
        """Uniform numbers that one decision takes."""
        return self.width

    def described(self) -> dict[str, Any]:
        """As JSON carries it."""
        return {
            "kind": self.kind,
            "choices": self.choices,
            "segments": [list(segment) for segment in self.segments],
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "slots": self.slots,
            "features": self.features,
        }


def discrete_shape(actions: int) -> Shape:
    """The shape of this many labels."""
    return Shape("discrete", actions, ((0, actions),), np.zeros(0), np.zeros(0))


def shape_from(described: Mapping[str, Any]) -> Shape:
    """The inverse of `Shape.described`. Raises KeyError, TypeError or ValueError."""
    return Shape(
        str(described["kind"]),
        int(described["choices"]),
        tuple((int(start), int(stop)) for start, stop in described["segments"]),
        np.array(described["low"], dtype=np.float64),
        np.array(described["high"], dtype=np.float64),
        int(described["slots"]),
        int(described["features"]),
    )
