"""A number in a box: drawn from a truncated or a squashed normal, and its density."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

LEAST_STD = 1e-3  # of a number's range: a density must stay a density
LARGEST_SQUASHED = 18.0  # |z| from which tanh(z) is 1 in float64
_NORMAL = NormalDist()


def draw_number(
    mean: float, std: float, low: float, high: float, share: float, u: float, *, squashed: bool
) -> float:
    """One number out of `(1 − share)·normal + share·uniform`, by one uniform `u` in [0, 1)."""
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


def densities(
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
