"""Does one thing depend on the action, given the context? Tests by random signs, and fits. Pure.

Where actions were drawn with known propensities p, a contrast of actions weighted by 1/p,
`(1[A = a] − 1/K) / p`, has mean 0 in every context, so times anything that does not depend on the
action it has mean 0: however badly the context's own effect is modelled, the test holds its level.
Its products with functions of the context find effects that differ between contexts (as the
weighted generalised covariance measure does: Scheidegger, Hörrmann & Bühlmann 2022).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bakehouse_learner.ope.fitted_q import Features

FLIPS = 499
FOLDS = 5
RIDGE = 1.0
MOST_COLUMNS = 40  # functions of the context
MOST_PRODUCTS = 600  # statistics of one test
_AT_ONCE = 50


class Tested(NamedTuple):
    """The largest standardised statistic, and how often random signs make a larger one."""

    largest: float
    p: float


class Contexts(NamedTuple):
    """Functions of the context, standardised; the first is 1. float64 `[n, P]`"""

    columns: np.ndarray

    @classmethod
    def of(cls, observation: np.ndarray) -> Contexts:
        """Linear, with squares and products where they are few: normalised float `[n, D]`."""
        raw = Features(observation)(observation)[:, 1:]
        spread = raw.std(axis=0)
        raw = (raw - raw.mean(axis=0))[:, spread > 1e-9] / spread[spread > 1e-9]
        return cls(np.concatenate([np.ones((len(raw), 1)), raw[:, : MOST_COLUMNS - 1]], axis=1))


def contrasts(action: np.ndarray, propensity: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    """`(1[A = a] − 1/K) / p` of labels; 0 where a is not eligible. float64 `[n, A]`"""
    n, actions = eligible.shape
    taken = np.zeros((n, actions))
    taken[np.arange(n), action] = 1.0
    even = eligible / np.maximum(eligible.sum(axis=1, keepdims=True), 1)
    return np.asarray((taken - even) / propensity[:, None])


def signs_test(contributions: np.ndarray, rng: np.random.Generator) -> Tested:
    """Is any column's mean other than 0? Rows have random signs under the hypothesis that not.

    Args:
        contributions: float `[n, S]`
    """
    scale = np.sqrt(np.sum(contributions**2, axis=0))
    kept = contributions[:, scale > 1e-12] / scale[scale > 1e-12]
    if kept.shape[1] == 0:
        return Tested(0.0, 1.0)
    largest = float(np.max(np.abs(kept.sum(axis=0))))
    narrow = kept.astype(np.float32)
    above = 0
    for start in range(0, FLIPS, _AT_ONCE):
        count = min(_AT_ONCE, FLIPS - start)
        signs = (2.0 * rng.integers(0, 2, (count, len(kept))) - 1.0).astype(np.float32)
        above += int(np.sum(np.max(np.abs(signs @ narrow), axis=1) >= largest))
    return Tested(largest, (1 + above) / (1 + FLIPS))


def products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Every column of one times every column of the other: `[n, P]`, `[n, Q]` → `[n, P·Q]`."""
    made = (first[:, :, None] * second[:, None, :]).reshape(len(first), -1)
    return np.asarray(made[:, :MOST_PRODUCTS])


def fitted(
    contexts: Contexts, outcome: np.ndarray, *, also: np.ndarray | None = None
) -> np.ndarray:
    """Ridge predictions of rows that the fit has not seen; float64 as `outcome`, `[n, D]`.

    Args:
        also: what else may explain it, such as the action: its columns, and their products with
            the contexts' own, float `[n, K]`
    """
    x = contexts.columns
    if also is not None:
        x = np.concatenate([x, products(also, x)], axis=1)
    predicted = np.zeros(outcome.shape)
    fold = np.arange(len(x)) % FOLDS
    for left_out in range(FOLDS):
        seen, held_out = fold != left_out, fold == left_out
        mean = outcome[seen].mean(axis=0)
        gram = x[seen].T @ x[seen] + RIDGE * np.eye(x.shape[1])
        theta = np.linalg.solve(gram, x[seen].T @ (outcome[seen] - mean))
        predicted[held_out] = x[held_out] @ theta + mean
    return predicted


def explained(outcome: np.ndarray, predicted: np.ndarray) -> float:
    """R² over all columns; below 0 where the mean alone predicts better."""
    total = float(np.sum((outcome - outcome.mean(axis=0)) ** 2))
    if total <= 0:
        return 0.0
    return 1.0 - float(np.sum((outcome - predicted) ** 2)) / total
