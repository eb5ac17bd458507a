"""The probability of every action of being the best, when what each is worth is uncertain.

What Thompson sampling (Thompson 1933) draws from, as a vector: with it the executed action has a
propensity, and the evaluation needs no second draw.
"""

from __future__ import annotations

import math

import numpy as np

from bakehouse_schemas.policy.network import Array

# Standard deviations from the mean at which a distribution function is looked at: dense where it
# is steep. Beyond them lie 2e-9 of it.
_NODES = 6.0 * np.sinh(np.linspace(-1.4, 1.4, 25)) / math.sinh(1.4)  # [K]
_TABLE_AT = np.linspace(-8.0, 8.0, 3_201)
_TABLE = np.array([0.5 * math.erfc(-z / math.sqrt(2.0)) for z in _TABLE_AT])
# of the largest mean: less is rounding, and a draw between equals
_LEAST_DEVIATION = 1e-6
_MOST_NODES = 400  # of all actions together: more actions need fewer each
_MOST_NUMBERS = 1 << 22  # held at a time, 32 MiB


def normal_distribution(z: Array) -> Array:
    """Φ(z), the standard normal distribution function, to 2e-6; any shape."""
    return np.asarray(np.interp(z, _TABLE_AT, _TABLE))


def probability_of_being_best(mean: Array, deviation: Array, eligible: Array) -> Array:
    """`P_a = ∫ φ_a Π_b Φ_b` over the eligible actions, their values independent Gaussians.

    Worked out at fixed quantiles of all actions together, so that an action that is known well
    and one that is hardly known are both met where they are steep; between two of them the
    integrand is taken as linear, which for two actions is exact in sum. Deterministic.

    Args:
        mean, deviation: of what each action is worth. float `[B, A]`, deviation ≥ 0
        eligible: bool `[B, A]`, at least one True a row

    Returns:
        float64 `[B, A]`, each row sums to 1, zero where not eligible.
    """
    rows, actions = mean.shape
    most = max(1, _MOST_NUMBERS // (actions * min(actions * len(_NODES), _MOST_NODES)))
    if rows > most:
        parts = [slice(start, start + most) for start in range(0, rows, most)]
        return np.concatenate(
            [probability_of_being_best(mean[p], deviation[p], eligible[p]) for p in parts]
        )
    all_eligible = bool(eligible.all())
    mean = mean.astype(np.float64)
    if not all_eligible:  # so that what is not eligible spoils no scale
        mean = np.where(eligible, mean, mean.max(axis=1, where=eligible, initial=-np.inf)[:, None])
    least = _LEAST_DEVIATION * np.abs(mean).max(axis=1, keepdims=True) + 1e-150  # [B, 1]
    deviation = np.maximum(deviation, least)
    at = mean[:, :, None] + deviation[:, :, None] * _NODES  # [B, A, K]
    at = np.sort(at.reshape(rows, 1, -1), axis=2)  # [B, 1, T]
    stride = -(-at.shape[2] // _MOST_NODES)
    if stride > 1:
        at = np.concatenate([at[:, :, ::stride], at[:, :, -1:]], axis=2)
    below = normal_distribution((at - mean[:, :, None]) / deviation[:, :, None])  # Φ_b [B, A, T]
    if not all_eligible:
        below[~eligible] = 1.0
    others = np.ones_like(below)  # Π over b ≠ a, without dividing by what may be 0
    np.cumprod(below[:, :-1], axis=1, out=others[:, 1:])
    after = np.cumprod(below[:, :0:-1], axis=1)[:, ::-1]
    others[:, :-1] *= after
    step = np.diff(below, axis=2)
    probabilities = np.einsum("bat,bat->ba", step, others[:, :, 1:] + others[:, :, :-1])
    return np.asarray(probabilities / probabilities.sum(axis=1, keepdims=True))
