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
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from bakehouse_schemas.application.actions import Shape
from bakehouse_schemas.application.exploration import Exploration

BASELINE_STD = 0.25  # of a number's range, around the baseline, where exploration names no other
LEAST_STD = 1e-3  # of a number's range: a density must stay a density
LARGEST_SQUASHED = 18.0  # |z| from which tanh(z) is 1 in float64
# a product of many factors stays a number above 0 that JSON can carry
LEAST_PROPENSITY, LARGEST_PROPENSITY = 1e-300, 1e300
_NORMAL = NormalDist()
_NEXT_DRAW = 0x9E3779B97F4A7C15
_MASK64 = (1 << 64) - 1


class Own(NamedTuple):
    """What a policy would do by itself, before exploration, for B contexts.

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

    def at(self, row: int) -> Own:
        """One row, still with its leading dimension."""
        one = slice(row, row + 1)
        return Own(self.probabilities[one], self.mean[one], self.std[one], self.squashed)


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


def baseline_own(shape: Shape, rows: np.ndarray, exploration: Exploration) -> Own:
    """Version 0's own distribution: around what the game's rules answer.

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
    return Own(probabilities, mean, np.broadcast_to(spread * (shape.high - shape.low), mean.shape))


def explored_own(shape: Shape, own: Own, exploration: Exploration) -> Own:
    """The policy's own with the exploration's spread in place of its own spread.

    With `gaussian` exploration the numbers are normal around the policy's most likely answer.
    """
    if exploration.kind != "gaussian" or not shape.dims or exploration.std is None:
        return own
    mean = own.mean
    if own.squashed:
        mean = _middle(shape) + _half(shape) * np.tanh(own.mean)
    std = np.broadcast_to(exploration.std * (shape.high - shape.low), mean.shape)
    return Own(own.probabilities, mean, std, squashed=False)


def most_likely(shape: Shape, own: Own, eligible: np.ndarray) -> np.ndarray:
    """The row of the action that a policy prefers, without any chance. float64 `[W]`

    Args:
        own: of one context (B = 1).
        eligible: bool `[A]`
    """
    if shape.kind == "ranking":
        order = np.argsort(-np.where(eligible, own.probabilities[0], -1.0), kind="stable")
        row = np.full(shape.slots, -1.0)
        places = min(shape.slots, int(eligible.sum()))
        row[:places] = order[:places]
        return row
    positions = [own.probabilities[0, start:stop].argmax() for start, stop in shape.segments]
    mean = own.mean[0]
    if own.squashed:
        mean = _middle(shape) + _half(shape) * np.tanh(mean)
    numbers = np.clip(mean, shape.low, shape.high)
    return np.asarray(np.concatenate([positions, numbers]), dtype=np.float64)


def execute(
    shape: Shape, own: Own, eligible: np.ndarray, exploration: Exploration, draw: float
) -> Executed:
    """Draw one decision.

    Args:
        own: of one context (B = 1).
        eligible: bool `[A]`; of each discrete part at least one True.
        draw: uniform in [0, 1); `draws_from` makes more of it where there are more factors.
    """
    own = explored_own(shape, own, exploration)
    draws = draws_from(draw, shape.draws)
    if shape.kind == "ranking":
        return _execute_ranking(shape, own.probabilities[0], eligible, exploration, draws)
    row: list[float] = []
    factors: list[float] = []
    explored = False
    for (start, stop), u in zip(shape.segments, draws, strict=False):
        mine = own.probabilities[0, start:stop]
        executed = executed_distribution(
            mine, eligible[start:stop], epsilon=exploration.epsilon, floor=exploration.floor
        )
        position = draw_action(executed, u)
        row.append(float(position))
        factors.append(float(executed[position]))
        explored |= position != int(mine.argmax())
    share = uniform_share(exploration.epsilon, exploration.floor)
    for at, u in enumerate(draws[len(shape.segments) :]):
        mean, std = float(own.mean[0, at]), float(own.std[0, at])
        low, high = float(shape.low[at]), float(shape.high[at])
        number = _draw_number(mean, std, low, high, share, u, squashed=own.squashed)
        row.append(number)
        density = _densities(
            np.array([number]),
            np.array([mean]),
            np.array([std]),
            shape.low[at : at + 1],
            shape.high[at : at + 1],
            squashed=own.squashed,
        )
        factors.append(float((1.0 - share) * density[0] + share / (high - low)))
        explored |= u < share
    return Executed(np.array(row), _product(factors), tuple(factors), explored)


def propensities(
    shape: Shape, own: Own, eligible: np.ndarray, rows: np.ndarray, exploration: Exploration
) -> np.ndarray:
    """Probability or density with which a policy would have executed given actions.

    Args:
        own: of the B contexts.
        eligible: bool `[B, A]`
        rows: the actions, float64 `[B, W]`

    Returns:
        float64 `[B]`; 0 where an action was not eligible.
    """
    own = explored_own(shape, own, exploration)
    if shape.kind == "ranking":
        factors = _ranking_factors(own.probabilities, eligible, rows, exploration)
    else:
        factors = _part_factors(shape, own, eligible, rows, exploration)
    with np.errstate(over="ignore", under="ignore"):
        total = np.clip(np.prod(factors, axis=1), LEAST_PROPENSITY, LARGEST_PROPENSITY)
    return np.asarray(np.where((factors > 0).all(axis=1), total, 0.0))


def _part_factors(
    shape: Shape, own: Own, eligible: np.ndarray, rows: np.ndarray, exploration: Exploration
) -> np.ndarray:
    """Of labels, numbers and parts. float64 `[B, W]`"""
    factors = np.ones(rows.shape)
    at = np.arange(len(rows))
    for part, (start, stop) in enumerate(shape.segments):
        position = start + rows[:, part].astype(int)
        factors[:, part] = _explored(
            own.probabilities[at, position], eligible[at, position],
            eligible[:, start:stop].sum(axis=1), exploration,
        )  # fmt: skip
    if shape.dims:
        share = uniform_share(exploration.epsilon, exploration.floor)
        density = _densities(
            rows[:, len(shape.segments) :],
            own.mean,
            own.std,
            shape.low,
            shape.high,
            squashed=own.squashed,
        )
        uniform = 1.0 / (shape.high - shape.low)
        factors[:, len(shape.segments) :] = (1.0 - share) * density + share * uniform
    return factors


def _product(factors: Sequence[float]) -> float:
    return min(max(math.prod(factors), LEAST_PROPENSITY), LARGEST_PROPENSITY)


def _explored(
    own: np.ndarray, eligible: np.ndarray, count: np.ndarray, exploration: Exploration
) -> np.ndarray:
    """`(1 − share)·own + share / count` of eligible choices, 0 of others. float64 `[B]`"""
    share = np.minimum(1.0, np.maximum(exploration.epsilon, exploration.floor * count))
    return np.asarray(((1.0 - share) * own + share / np.maximum(count, 1)) * eligible)


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


def _middle(shape: Shape) -> np.ndarray:
    return np.asarray((shape.high + shape.low) / 2)


def _half(shape: Shape) -> np.ndarray:
    return np.asarray((shape.high - shape.low) / 2)


def _draw_number(
    mean: float, std: float, low: float, high: float, share: float, u: float, *, squashed: bool
) -> float:
    """One number out of `(1 − share)·own + share·uniform`, by one uniform `u` in [0, 1)."""
    if u < share:
        return low + (high - low) * u / share
    u = (u - share) / (1.0 - share)
    std = max(std, LEAST_STD * (1.0 if squashed else high - low))
    if squashed:
        z = mean + std * _NORMAL.inv_cdf(min(max(u, 1e-300), 1.0 - 1e-16))
        return low + (high - low) * (1.0 + math.tanh(z)) / 2
    mean = min(max(mean, low), high)
    least, most = _NORMAL.cdf((low - mean) / std), _NORMAL.cdf((high - mean) / std)
    level = min(max(least + u * (most - least), 1e-300), 1.0 - 1e-16)
    return min(max(mean + std * _NORMAL.inv_cdf(level), low), high)


def _densities(
    numbers: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    *,
    squashed: bool,
) -> np.ndarray:
    """Density of numbers under a truncated or a squashed normal; float64, broadcast."""
    if squashed:
        std = np.maximum(std, LEAST_STD)
        half = (high - low) / 2
        ratio = np.clip((numbers - (high + low) / 2) / half, -1.0, 1.0)
        with np.errstate(divide="ignore"):
            z = np.clip(np.arctanh(ratio), -LARGEST_SQUASHED, LARGEST_SQUASHED)
        # log(1 − tanh²z) = 2·(log 2 − z − softplus(−2z)), which does not cancel
        log_slope = 2.0 * (math.log(2.0) - z - np.logaddexp(0.0, -2.0 * z))
        log_density = _log_normal((z - mean) / std) - np.log(std) - log_slope - np.log(half)
        return np.asarray(np.exp(np.clip(log_density, -700.0, 700.0)))
    std = np.maximum(std, LEAST_STD * (high - low))
    mean = np.clip(mean, low, high)
    mass = _cdf((high - mean) / std) - _cdf((low - mean) / std)
    return np.asarray(np.exp(_log_normal((numbers - mean) / std)) / (std * mass))


def _log_normal(z: np.ndarray) -> np.ndarray:
    return np.asarray(-0.5 * z * z - 0.5 * math.log(2 * math.pi))


_erf = np.frompyfunc(math.erf, 1, 1)


def _cdf(z: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1.0 + np.asarray(_erf(z / math.sqrt(2.0)), dtype=np.float64)))


def logged_density(
    shape: Shape, own: Own, exploration: Exploration, executed: Executed
) -> dict[str, Any]:
    """What a log must say, beside exploration and draw, to recompute a decision that is no label.

    `own_from_density` reads it back.
    """
    own = explored_own(shape, own, exploration)
    described: dict[str, Any] = {"factors": list(executed.factors)}
    if shape.kind == "ranking":
        described |= {"kind": "plackett_luce", "worths": own.probabilities[0].tolist()}
        return described
    if shape.segments:
        described["probabilities"] = own.probabilities[0].tolist()
    if shape.dims:
        described |= {
            "kind": "tanh_normal" if own.squashed else "truncated_normal",
            "mean": own.mean[0].tolist(),
            "std": own.std[0].tolist(),
        }
        if own.squashed:
            numbers = executed.row[len(shape.segments) :]
            ratio = np.clip((numbers - _middle(shape)) / _half(shape), -1.0, 1.0)
            with np.errstate(divide="ignore"):
                z = np.arctanh(ratio)
            described["before_squashing"] = np.clip(z, -LARGEST_SQUASHED, LARGEST_SQUASHED).tolist()
    described.setdefault("kind", "categorical")
    return described


POINT = {"kind": "point"}  # no draw: the one action, for sure


def own_from_density(shape: Shape, density: dict[str, Any]) -> Own:
    """The distribution that a decision was drawn from, out of its log.

    Raises:
        KeyError, TypeError, ValueError: the log is not of this shape.
    """
    weights = density["worths"] if shape.kind == "ranking" else density.get("probabilities")
    probabilities = np.ones(1) if weights is None else np.array(weights, dtype=np.float64)
    mean = np.array(density.get("mean", ()), dtype=np.float64)
    std = np.array(density.get("std", ()), dtype=np.float64)
    sizes = (probabilities.shape, mean.shape, std.shape)
    if sizes != ((shape.choices,), (shape.dims,), (shape.dims,)):
        raise ValueError(
            f"the density has {sizes[0]} probabilities, {sizes[1]} means and {sizes[2]} spreads; "
            f"expected ({shape.choices},), ({shape.dims},) and ({shape.dims},)"
        )
    return Own(
        probabilities[None], mean[None], std[None], squashed=density["kind"] == "tanh_normal"
    )
