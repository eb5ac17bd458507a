"""The base policy: what a policy, or the game's rules, would do before exploration."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.application.shape import Shape

BASELINE_STD = 0.25  # of a number's range, around the baseline, where exploration names no other


class BasePolicy(NamedTuple):
    """The base policy's distribution, before exploration, for B contexts.

    Args:
        probabilities: of the choices, each segment's adding up to 1; of a ranking the items'
            worths (Plackett–Luce), adding up to 1; zero where not eligible. float64 `[B, A]`
        mean, std: of the numbers, before squashing where `squashed`. float64 `[B, d]`
        squashed: a number is `middle + half·tanh(z)`, z ~ N(mean, std); else it is normal,
            truncated to its box.
    """

    probabilities: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    squashed: bool = False

    def at(self, row: int) -> BasePolicy:
        """One row, still with its leading dimension."""
        one = slice(row, row + 1)
        return BasePolicy(self.probabilities[one], self.mean[one], self.std[one], self.squashed)


def baseline_policy(shape: Shape, rows: np.ndarray, exploration: Exploration) -> BasePolicy:
    """Version 0's base policy: around what the game's rules answer.

    Args:
        rows: the baseline's actions, float64 `[B, W]`; a ranking has −1 where a place is empty.
    """
    size = len(rows)
    probabilities = np.zeros((size, shape.choices))
    at = np.arange(size)
    if shape.kind == "ranking":
        # each place goes to the next of the baseline's items: worths a million apart
        for place in range(shape.slots):
            there = rows[:, place] >= 0
            probabilities[at[there], rows[there, place].astype(int)] = 1e-6**place
        probabilities /= np.maximum(probabilities.sum(axis=1, keepdims=True), 1e-300)
    elif shape.segments:
        for part, (start, _) in enumerate(shape.segments):
            probabilities[at, start + rows[:, part].astype(int)] = 1.0
    else:
        probabilities[:] = 1.0
    mean = rows[:, len(shape.segments) :] if shape.dims else np.zeros((size, 0))
    spread = BASELINE_STD if exploration.std is None else exploration.std
    return BasePolicy(
        probabilities, mean, np.broadcast_to(spread * (shape.high - shape.low), mean.shape)
    )


def with_exploration_spread(
    shape: Shape, base_policy: BasePolicy, exploration: Exploration
) -> BasePolicy:
    """The base policy with the exploration's spread in place of its own.

    With `gaussian` exploration the numbers are normal around the policy's most likely answer.
    """
    if exploration.kind != "gaussian" or not shape.dims or exploration.std is None:
        return base_policy
    mean = base_policy.mean
    if base_policy.squashed:
        mean = middle(shape) + half_range(shape) * np.tanh(base_policy.mean)
    std = np.broadcast_to(exploration.std * (shape.high - shape.low), mean.shape)
    return BasePolicy(base_policy.probabilities, mean, std, squashed=False)


def most_likely(shape: Shape, base_policy: BasePolicy, eligible: np.ndarray) -> np.ndarray:
    """The row of the action that a policy prefers, without any chance. float64 `[W]`

    Args:
        base_policy: of one context (B = 1).
        eligible: bool `[A]`
    """
    if shape.kind == "ranking":
        order = np.argsort(-np.where(eligible, base_policy.probabilities[0], -1.0), kind="stable")
        row = np.full(shape.slots, -1.0)
        places = min(shape.slots, int(eligible.sum()))
        row[:places] = order[:places]
        return row
    positions = [
        base_policy.probabilities[0, start:stop].argmax() for start, stop in shape.segments
    ]
    mean = base_policy.mean[0]
    if base_policy.squashed:
        mean = middle(shape) + half_range(shape) * np.tanh(mean)
    numbers = np.clip(mean, shape.low, shape.high)
    return np.asarray(np.concatenate([positions, numbers]), dtype=np.float64)


def middle(shape: Shape) -> np.ndarray:
    """The middle of each number's box. float64 `[d]`"""
    return np.asarray((shape.high + shape.low) / 2)


def half_range(shape: Shape) -> np.ndarray:
    """Half the range of each number's box. float64 `[d]`"""
    return np.asarray((shape.high - shape.low) / 2)
