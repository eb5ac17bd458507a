"""Rewards in units of their own spread, whatever the game's units are.

A network that is to learn within seconds wants targets of about one, and a game's rewards may
be cents or thousands of coins. Mean and spread follow the rewards that are trained on, and the
last layer is rewritten whenever they move, so that what the network predicts in the game's
units stays the same (van Hasselt et al. 2016, "Learning values across many orders of
magnitude", Pop-Art).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

FORGETTING = 0.01  # least weight of the newest batch, so that drifting rewards are followed


class Rewrite(NamedTuple):
    """What the last layer undergoes: `W ← ratio · W`, `b ← ratio · b + shift`."""

    ratio: float
    shift: float


class RewardScale:
    """Running offset and unit of the rewards that are trained on.

    Args:
        centred: subtract the mean. Right where nothing is bootstrapped; with a discount, what
            an offset adds to a value depends on how much of the episode is left, so it stays 0.
    """

    def __init__(self, *, centred: bool) -> None:
        self._centred = centred
        self._rows = 0.0
        self._mean = 0.0
        self._variance = 0.0

    @property
    def offset(self) -> float:
        """Reward that the network sees as 0."""
        return self._mean if self._centred else 0.0

    @property
    def unit(self) -> float:
        """Reward above the offset that the network sees as 1; never 0."""
        spread = math.sqrt(self._variance + (0.0 if self._centred else self._mean**2))
        if spread <= 1e-6 * abs(self._mean):  # constant so far
            return abs(self._mean) or 1.0
        return spread or 1.0

    def update(self, rewards: np.ndarray) -> Rewrite:
        """Take in the rewards of a batch, float `[n]`; those not finite are passed over."""
        rewards = rewards[np.isfinite(rewards)].astype(np.float64)
        if not len(rewards):
            return Rewrite(1.0, 0.0)
        first, offset, unit = self._rows == 0, self.offset, self.unit
        self._rows += len(rewards)
        rate = max(len(rewards) / self._rows, FORGETTING)
        step = float(rewards.mean()) - self._mean
        # mean and variance of the mixture of what was and what came
        self._variance = (
            (1 - rate) * self._variance + rate * float(rewards.var()) + rate * (1 - rate) * step**2
        )
        self._mean += rate * step
        if first:  # nothing was predicted yet that would have to stay the same
            return Rewrite(1.0, 0.0)
        return Rewrite(unit / self.unit, (offset - self.offset) / self.unit)

    def in_units(self, rewards: np.ndarray) -> np.ndarray:
        """Rewards as the network learns them: float `[…]` → float32 `[…]`."""
        return ((rewards.astype(np.float64) - self.offset) / self.unit).astype(np.float32)

    def state(self) -> np.ndarray:
        """float64 `[3]`"""
        return np.array([self._rows, self._mean, self._variance])

    def restore(self, state: np.ndarray) -> None:
        """Continue from `state()`."""
        self._rows, self._mean, self._variance = map(float, state)
