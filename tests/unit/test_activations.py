"""Activations that a bundle can carry: worked by hand, bounded, and finite wherever they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakehouse_schemas.policy.activations import ACTIVATIONS, BOUNDS

X = np.array([[-2.0, -0.5, 0.0, 0.5, 2.0]], np.float32)
FORMULAS = {
    "relu": lambda x: max(x, 0.0),
    "tanh": math.tanh,
    "elu": lambda x: x if x > 0 else math.expm1(x),
    "selu": lambda x: 1.0507009873 * (x if x > 0 else 1.6732632423 * math.expm1(x)),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "softplus": lambda x: math.log1p(math.exp(x)),
    "swish": lambda x: x / (1 + math.exp(-x)),
    "gelu": lambda x: x * 0.5 * math.erfc(-x / math.sqrt(2)),
}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_an_activation_is_its_formula(name: str):
    x = np.linspace(-8, 8, 401, dtype=np.float32)[None]
    found = ACTIVATIONS[name](x)
    assert found.dtype == np.float32
    expected = [[FORMULAS[name](float(number)) for number in x[0]]]
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@given(largest=st.floats(0, 1e37), share=st.floats(-1, 1))
def test_an_activation_stays_within_its_bound(name: str, largest: float, share: float):
    x = np.array([[largest * share, largest, -largest]], np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        found = ACTIVATIONS[name](x)
    most = BOUNDS[name](np.abs(x).astype(np.float64).max(axis=0))
    assert np.all(np.abs(found) <= most * (1 + 1e-6) + 1e-6)


def test_every_activation_has_a_bound():
    assert sorted(BOUNDS) == sorted(ACTIVATIONS) == sorted(FORMULAS)
