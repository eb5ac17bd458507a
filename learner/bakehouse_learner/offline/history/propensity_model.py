"""Propensities that nobody logged, estimated from what the logs chose in which context."""

from __future__ import annotations

import numpy as np

FOLDS = 5
RIDGE = 1.0  # a prior on every weight, worth about one row
MOST_ROWS = 20_000  # that a fit is over
MOST_STEPS = 400
ENOUGH = 1e-5  # largest slope at which a fit has converged


def estimate_propensities(
    observation: np.ndarray,
    action: np.ndarray,
    eligible: np.ndarray,
    groups: np.ndarray,
    *,
    floor: float,
) -> np.ndarray:
    """Probability with which each logged action was chosen, as far as the context explains it.

    Multinomial logistic regression over the eligible actions, cross-fitted: no row is in the fit
    that estimates it, nor any other row of its group, else overfitting would make what was chosen
    look likelier than it was.

    Args:
        observation: float32 `[n, D]`
        action: int `[n]`
        eligible: bool `[n, A]`
        groups: int `[n]`, rows that belong together (of one subject, one episode)
        floor: no estimate is below this, which bounds importance weights by its inverse.

    Returns:
        float64 `[n]`, at least `floor`, at most 1.
    """
    n = len(action)
    x = _features(observation)
    _, number = np.unique(groups, return_inverse=True)
    fold = np.random.default_rng(0).permutation(int(number.max()) + 1)[number] % FOLDS
    folds = np.unique(fold)
    if len(folds) < 2:  # a single group: there is nothing else to fit on
        fold, folds = np.arange(n) % FOLDS, np.arange(min(FOLDS, n))
    found = np.zeros(n)
    for held in folds:
        mine, others = np.flatnonzero(fold == held), np.flatnonzero(fold != held)
        if len(others) == 0:
            others = mine
        fitted = others[np.linspace(0, len(others) - 1, min(len(others), MOST_ROWS)).astype(int)]
        weights = fit_multinomial(x[fitted], action[fitted], eligible[fitted])
        chances = _chances(x[mine] @ weights, eligible[mine])
        found[mine] = chances[np.arange(len(mine)), action[mine]]
    return np.asarray(np.clip(found, floor, 1.0))


def fit_multinomial(x: np.ndarray, action: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    """Weights `[D, A]` of the most likely softmax regression, with a ridge.

    Accelerated gradient descent (Nesterov 1983) with the step that Böhning's (1992) bound on the
    curvature of the multinomial likelihood allows.
    """
    n, actions = len(x), eligible.shape[1]
    chosen = np.zeros((n, actions))
    chosen[np.arange(n), action] = 1.0
    curvature = 0.5 * float(np.linalg.eigvalsh(x.T @ x / n)[-1]) + RIDGE / n
    weights = ahead = np.zeros((x.shape[1], actions))
    momentum = 1.0
    for _ in range(MOST_STEPS):
        slope = x.T @ (_chances(x @ ahead, eligible) - chosen) / n + RIDGE / n * ahead
        if float(np.abs(slope).max()) < ENOUGH:
            break
        moved = ahead - slope / curvature
        following = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        ahead = moved + (momentum - 1.0) / following * (moved - weights)
        weights, momentum = moved, following
    return np.asarray(weights)


def _features(observation: np.ndarray) -> np.ndarray:
    """Standardised, with a constant: `[n, D]` → float64 `[n, D + 1]`."""
    values = observation.astype(np.float64)
    spread = values.std(axis=0)
    values = (values - values.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    return np.concatenate([np.ones((len(values), 1)), np.clip(values, -8.0, 8.0)], axis=1)


def _chances(logits: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    logits = np.where(eligible, logits, -np.inf)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
