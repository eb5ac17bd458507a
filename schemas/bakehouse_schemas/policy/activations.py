"""Activation functions that a policy bundle can carry: in NumPy, and how large they can get.

Each takes and gives float32 of any shape, and overflows nowhere; `BOUNDS` gives the largest |y|
for |x| up to so much, float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray

_ZERO = np.zeros((), np.float32)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
# Klambauer et al. 2017, "Self-normalizing neural networks", equation 14
_SELU_SCALE, _SELU_ALPHA = np.float32(1.0507009873554805), np.float32(1.6732632423543772)


def relu(x: Array) -> Array:
    """`max(x, 0)`"""
    return np.asarray(np.maximum(x, _ZERO))


def elu(x: Array) -> Array:
    """`x`, below 0 `eˣ − 1`"""
    return np.where(x > 0, x, np.expm1(np.minimum(x, _ZERO)))


def selu(x: Array) -> Array:
    """`λ x`, below 0 `λ α (eˣ − 1)`"""
    return np.asarray(
        _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(np.minimum(x, _ZERO)))
    )


def sigmoid(x: Array) -> Array:
    """`1 / (1 + e⁻ˣ)`, by way of the tangent, which overflows on neither side."""
    return np.asarray(_HALF * np.tanh(_HALF * x) + _HALF)


def softplus(x: Array) -> Array:
    """`log(1 + eˣ)`"""
    return np.asarray(np.maximum(x, _ZERO) + np.log1p(np.exp(-np.abs(x))))


def swish(x: Array) -> Array:
    """`x · sigmoid(x)`"""
    return np.asarray(x * sigmoid(x))


def gelu(x: Array) -> Array:
    """`x · Φ(x)`, Φ the normal distribution function (Hendrycks & Gimpel 2016)."""
    # erf to 1.5e-7: Abramowitz & Stegun 1964, 7.1.26
    z = np.abs(x) * np.float32(0.5**0.5)
    t = _ONE / (_ONE + np.float32(0.3275911) * z)
    tail = np.full_like(t, 1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail *= t
        tail += np.float32(coefficient)
    z = np.minimum(z, np.float32(9.0))  # beyond it the tail is below float32, and z² overflows
    tail *= t * np.exp(-z * z)  # 1 − erf(|x| / √2)
    below = _HALF * np.where(x > 0, np.float32(2.0) - tail, tail)
    return np.asarray(x * below)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": relu,
    "tanh": np.tanh,
    "elu": elu,
    "selu": selu,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "swish": swish,
    "gelu": gelu,
}
BOUNDS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda most: most,
    "tanh": lambda most: np.minimum(most, 1.0),
    "elu": lambda most: np.maximum(most, 1.0),
    "selu": lambda most: 1.06 * np.maximum(most, 1.68),
    "sigmoid": np.ones_like,
    "softplus": lambda most: most + np.log(2.0),
    "swish": lambda most: most,
    "gelu": lambda most: most,
}
