"""The executed distribution: exploration, mask and floor, the propensity, and the draw from it.

Computed, logged and drawn from in serving; recomputed from the log wherever a decision is
audited; evaluated by the learner for policies that did not decide. This is the only place that
knows the rule.

A decision is made of one or more **factors** that are drawn one after the other: the label of a
discrete action; each number of a continuous one; each part of several; each place of a ranking,
out of the items that are left. The propensity is the product of the factors' own. A factor is
`(1 − share)·policy + share·uniform`: over the eligible choices, or over the number's box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.application.shape import Shape
from bakehouse_schemas.execution.base_policy import BasePolicy, with_exploration_spread
from bakehouse_schemas.execution.bounded_normal import densities, draw_number

# a product of many factors stays a number above 0 that JSON can carry
LEAST_PROPENSITY, LARGEST_PROPENSITY = 1e-300, 1e300
_NEXT_DRAW = 0x9E3779B97F4A7C15
_MASK64 = (1 << 64) - 1


class Executed(NamedTuple):
    """One decision, drawn.

    Args:
        row: the action's row; see `Shape`. float64 `[W]`
        propensity: probability or density, of all factors together.
        factors: of each factor by itself.
        explored: whether the policy's own most likely action is another one (discrete factors),
            or a number came from the uniform share.
    """

    row: np.ndarray
    propensity: float
    factors: tuple[float, ...]
    explored: bool


def executed_distribution(
    policy: np.ndarray, eligible: np.ndarray, *, epsilon: float, floor: float
) -> np.ndarray:
    """`(1 − ε)·policy + ε·uniform` over the eligible actions, no eligible one below `floor`.

    ε is raised where `ε / |eligible|` would be below the floor.

    Args:
        policy: the policy's own probabilities, zero on ineligible actions. float64 `[A]`
        eligible: mask with at least one True. bool `[A]`
        epsilon: configured exploration share.
        floor: least propensity of an eligible action.

    Returns:
        float64 `[A]`, sums to 1.
    """
    count = int(np.count_nonzero(eligible))
    share = uniform_share(epsilon, floor, count)
    executed = policy * (1.0 - share)
    executed += eligible * (share / count)
    return executed


def uniform_share(epsilon: float, floor: float, count: int = 1) -> float:
    """Share of uniform choice among `count` choices (1: of a number in its box)."""
    return min(1.0, max(epsilon, floor * count))


def draw_action(executed: np.ndarray, draw: float) -> int:
    """Index of the action that a uniform `draw` in [0, 1) selects (inverse of the CDF)."""
    cumulative = executed.cumsum()
    at = int(cumulative.searchsorted(draw * cumulative[-1], side="right"))
    while at >= len(executed) or executed[at] <= 0.0:  # only rounding at the edge gets here
        at -= 1
    return at


def one_hot(position: int, size: int) -> np.ndarray:
    """Probability one on one action: the baseline's distribution. float64 `[A]`"""
    distribution = np.zeros(size, dtype=np.float64)
    distribution[position] = 1.0
    return distribution


def draws_from(draw: float, count: int) -> list[float]:
    """`count` uniform numbers in [0, 1) out of the one that is logged; the first is `draw`.

    SplitMix64 over its 53 bits (Steele, Lea & Flood 2014), so that a log of one number says all.
    """
    state = int(draw * (1 << 53))
    numbers = [draw]
    for _ in range(count - 1):
        state = (state + _NEXT_DRAW) & _MASK64
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
        numbers.append(((z ^ (z >> 31)) >> 11) / (1 << 53))
    return numbers


def execute(
    shape: Shape,
    base_policy: BasePolicy,
    eligible: np.ndarray,
    exploration: Exploration,
    draw: float,
) -> Executed:
    """Draw one decision.

    Args:
        base_policy: of one context (B = 1).
        eligible: bool `[A]`; of each discrete part at least one True.
        draw: uniform in [0, 1); `draws_from` makes more of it where there are more factors.
    """
    base_policy = with_exploration_spread(shape, base_policy, exploration)
    draws = draws_from(draw, shape.draws)
    if shape.kind == "ranking":
        return _execute_ranking(shape, base_policy.probabilities[0], eligible, exploration, draws)
    row: list[float] = []
    factors: list[float] = []
    explored = False
    for (start, stop), u in zip(shape.segments, draws, strict=False):
        mine = base_policy.probabilities[0, start:stop]
        executed = executed_distribution(
            mine, eligible[start:stop], epsilon=exploration.epsilon, floor=exploration.floor
        )
        position = draw_action(executed, u)
        row.append(float(position))
        factors.append(float(executed[position]))
        explored |= position != int(mine.argmax())
    share = uniform_share(exploration.epsilon, exploration.floor)
    for at, u in enumerate(draws[len(shape.segments) :]):
        mean, std = float(base_policy.mean[0, at]), float(base_policy.std[0, at])
        low, high = float(shape.low[at]), float(shape.high[at])
        number = draw_number(mean, std, low, high, share, u, squashed=base_policy.squashed)
        row.append(number)
        density = densities(
            np.array([number]),
            np.array([mean]),
            np.array([std]),
            shape.low[at : at + 1],
            shape.high[at : at + 1],
            squashed=base_policy.squashed,
        )
        factors.append(float((1.0 - share) * density[0] + share / (high - low)))
        explored |= u < share
    return Executed(np.array(row), _product(factors), tuple(factors), explored)


def propensities(
    shape: Shape,
    base_policy: BasePolicy,
    eligible: np.ndarray,
    rows: np.ndarray,
    exploration: Exploration,
) -> np.ndarray:
    """Probability or density with which a policy would have executed given actions.

    Args:
        base_policy: of the B contexts.
        eligible: bool `[B, A]`
        rows: the actions, float64 `[B, W]`

    Returns:
        float64 `[B]`; 0 where an action was not eligible.
    """
    base_policy = with_exploration_spread(shape, base_policy, exploration)
    if shape.kind == "ranking":
        factors = _ranking_factors(base_policy.probabilities, eligible, rows, exploration)
    else:
        factors = _part_factors(shape, base_policy, eligible, rows, exploration)
    with np.errstate(over="ignore", under="ignore"):
        total = np.clip(np.prod(factors, axis=1), LEAST_PROPENSITY, LARGEST_PROPENSITY)
    return np.asarray(np.where((factors > 0).all(axis=1), total, 0.0))


def _part_factors(
    shape: Shape,
    base_policy: BasePolicy,
    eligible: np.ndarray,
    rows: np.ndarray,
    exploration: Exploration,
) -> np.ndarray:
    """Of labels, numbers and parts. float64 `[B, W]`"""
    factors = np.ones(rows.shape)
    at = np.arange(len(rows))
    for part, (start, stop) in enumerate(shape.segments):
        position = start + rows[:, part].astype(int)
        factors[:, part] = _explored(
            base_policy.probabilities[at, position], eligible[at, position],
            eligible[:, start:stop].sum(axis=1), exploration,
        )  # fmt: skip
    if shape.dims:
        share = uniform_share(exploration.epsilon, exploration.floor)
        density = densities(
            rows[:, len(shape.segments) :],
            base_policy.mean,
            base_policy.std,
            shape.low,
            shape.high,
            squashed=base_policy.squashed,
        )
        uniform = 1.0 / (shape.high - shape.low)
        factors[:, len(shape.segments) :] = (1.0 - share) * density + share * uniform
    return factors


def _product(factors: Sequence[float]) -> float:
    return min(max(math.prod(factors), LEAST_PROPENSITY), LARGEST_PROPENSITY)


def _explored(
    probability: np.ndarray, eligible: np.ndarray, count: np.ndarray, exploration: Exploration
) -> np.ndarray:
    """`(1 − share)·probability + share / count` of eligible choices, 0 of others. float64 `[B]`"""
    share = np.minimum(1.0, np.maximum(exploration.epsilon, exploration.floor * count))
    return np.asarray(((1.0 - share) * probability + share / np.maximum(count, 1)) * eligible)


def _execute_ranking(
    shape: Shape,
    worths: np.ndarray,
    eligible: np.ndarray,
    exploration: Exploration,
    draws: Sequence[float],
) -> Executed:
    left = eligible.copy()
    row = np.full(shape.slots, -1.0)
    factors: list[float] = []
    explored = False
    for place in range(min(shape.slots, int(eligible.sum()))):
        mine = next_place(worths, left)
        executed = executed_distribution(
            mine, left, epsilon=exploration.epsilon, floor=exploration.floor
        )
        position = draw_action(executed, draws[place])
        explored |= position != int(mine.argmax())
        row[place] = position
        factors.append(float(executed[position]))
        left[position] = False
    return Executed(row, _product(factors), tuple(factors), explored)


def next_place(worths: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Plackett–Luce: worths of the items that are left, adding up to 1. `[…, A]`"""
    kept = np.where(left, worths, 0.0)
    total = kept.sum(axis=-1, keepdims=True)
    some = left / np.maximum(left.sum(axis=-1, keepdims=True), 1)
    return np.asarray(np.where(total > 0, kept / np.where(total > 0, total, 1.0), some))


def _ranking_factors(
    worths: np.ndarray, eligible: np.ndarray, rows: np.ndarray, exploration: Exploration
) -> np.ndarray:
    """Of each place, 1 where it is empty. float64 `[B, k]`"""
    left = eligible.copy()
    factors = np.ones(rows.shape)
    at = np.arange(len(rows))
    for place in range(rows.shape[1]):
        there = rows[:, place] >= 0
        position = np.where(there, rows[:, place], 0).astype(int)
        factor = _explored(
            next_place(worths, left)[at, position], left[at, position], left.sum(axis=1),
            exploration,
        )  # fmt: skip
        factors[:, place] = np.where(there, factor, 1.0)
        left[at[there], position[there]] = False
    return factors
