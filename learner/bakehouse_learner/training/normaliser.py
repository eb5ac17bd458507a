"""How observations are brought to about one, once and for good: a policy's normaliser.

It is made once and then frozen, because every weight learned behind it assumes it; changing
it starts a lineage. `bakehouse_schemas.policy.policy` applies the same formula in serving.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bakehouse_schemas.application.actions import Discrete
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.observation import Bounds
from bakehouse_schemas.application.ranking import Ranking

CLIP = 5.0  # what lies further out says no more than that it lies far out
TAIL = 0.005  # share on each side that may not move mean and spread (one cheat, one bug)


class Normaliser(NamedTuple):
    """`clip((x − offset) · scale, ±clip)`."""

    offset: np.ndarray  # float32 [D]
    scale: np.ndarray  # float32 [D]
    clip: float

    def arrays(self, name: str = "normaliser") -> dict[str, np.ndarray]:
        """As a bundle carries it; see `policy.Policy`. Of items, `name` is `item`."""
        return {
            f"{name}_offset": self.offset,
            f"{name}_scale": self.scale,
            f"{name}_clip": np.array(self.clip, np.float32),
        }

    def apply(self, observation: np.ndarray) -> np.ndarray:
        """Normalised observations: float32 `[…, D]` → `[…, D]`."""
        with np.errstate(over="ignore"):  # beyond float32 is beyond the clip
            scaled = observation - self.offset
            scaled *= self.scale
        return np.asarray(np.clip(scaled, -np.float32(self.clip), np.float32(self.clip), scaled))


def static_normaliser(bounds: Bounds) -> Normaliser | None:
    """The normaliser of known ranges, None where some dimension must be learned from data.

    A range `[low, high]` becomes `[−1, 1]`. `[0, 1]` stays as it is: a one-hot block has mostly
    zeros, and those should stay silent.
    """
    if np.any(np.isnan(bounds.low)):
        return None
    return _normaliser(*_static(bounds))


def item_normaliser(application: Application) -> Normaliser:
    """The normaliser of what describes items, or actions; of no dimensions where nothing does.

    An item's numbers have known ranges; those of a fixed set of actions are brought to mean 0 and
    standard deviation 1 over the actions.
    """
    actions = application.actions
    if isinstance(actions, Ranking):
        return _normaliser(*_static(actions.encoder.bounds()))
    features = actions.feature_array() if isinstance(actions, Discrete) else None
    if features is None:
        return _normaliser(np.zeros(0), np.ones(0))
    deviation = features.std(axis=0)
    still = deviation <= 1e-6 * np.maximum(np.abs(features).max(axis=0), 1e-6)
    return _normaliser(features.mean(axis=0), 1.0 / np.where(still, 1.0, deviation))


def fit_normaliser(bounds: Bounds, observations: np.ndarray) -> Normaliser:
    """The normaliser of these observations, where `bounds` does not give the range.

    Learned dimensions get mean 0 and standard deviation 1 over the rows, the farthest half
    percent on either side pulled in; the deviation has a floor, so that a dimension that has
    hardly moved yet does not explode when it does.

    Args:
        bounds: known ranges, NaN in dimensions to learn.
        observations: the first rows, about a thousand. float `[n, D]`

    Raises:
        ValueError: no row is finite; nothing can be learned from none.
    """
    rows = observations[np.isfinite(observations).all(axis=1)].astype(np.float64)
    if not len(rows):
        raise ValueError(
            f"normaliser: {len(observations)} observations came and none is finite; at least one "
            "is needed, about a thousand are good"
        )
    offset, scale = _static(bounds)
    learned = np.isnan(bounds.low)
    if learned.any():
        data = rows[:, learned]
        data = np.clip(data, *np.quantile(data, [TAIL, 1 - TAIL], axis=0))
        mean, deviation = data.mean(axis=0), data.std(axis=0)
        size = np.abs(mean)
        still = deviation <= 1e-6 * size  # also where both are 0
        floor = np.where(still, np.maximum(size, 1.0), np.maximum(1e-3 * size, 1e-6))
        offset[learned], scale[learned] = mean, 1.0 / np.maximum(deviation, floor)
    return _normaliser(offset, scale)


def _static(bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
    """Offset and scale of known ranges, NaN in the others. float64 `[D]`, `[D]`"""
    unit = (bounds.low == 0.0) & (bounds.high == 1.0)
    middle = bounds.low / 2 + bounds.high / 2  # halves first: their sum may overflow
    half = bounds.high / 2 - bounds.low / 2
    return np.where(unit, 0.0, middle), np.where(unit, 1.0, 1.0 / half)


def _normaliser(offset: np.ndarray, scale: np.ndarray) -> Normaliser:
    largest = float(np.finfo(np.float32).max)
    return Normaliser(
        offset=np.clip(offset, -largest, largest).astype(np.float32),
        scale=np.clip(scale, -largest, largest).astype(np.float32),
        clip=CLIP,
    )
