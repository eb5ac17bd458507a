"""What lists would have earned against other lists, where no list is ever shown twice.

The chance of one list out of all is a product over its places, so importance weights of lists
see next to nothing: greedy lists of three out of eight have 1 in 1,500 of version 0's draws. So
the difference is estimated by a model instead: linear in the context, the item and their
products, and a list earns what its items do, each as far as its place is seen (the position-based
model, Craswell et al. 2008). It is fitted by alternating least squares; an estimate, as the
fitted-Q difference of episodes is.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from bakehouse_learner.statistics.confidence_sequence import ROUNDING, Interval

ROUNDS = 4  # of alternating least squares
RIDGE = 1.0  # a prior on every weight, worth about one decision
MOST_TERMS = 400  # beyond, products of context and item are left out
_NOTHING = Interval(0.0, -math.inf, math.inf, 0)


def ranking_difference(
    observation: np.ndarray,
    items: np.ndarray,
    shown: np.ndarray,
    reward: np.ndarray,
    *,
    candidate: np.ndarray,
    baseline: np.ndarray,
    confidence: float,
) -> Interval:
    """Mean reward of a candidate's lists − that of the baseline's, over given decisions.

    Args:
        observation: float `[n, D]`, normalised
        items: float `[n, A, F]`, normalised
        shown: positions of the items that were shown, −1 where a place was empty, int `[n, k]`
        reward: what that earned, float `[n]`
        candidate, baseline: what they would show, as `shown`.
        confidence: two-sided, of the mean difference, given that the model is right.
    """
    n = len(reward)
    terms = (1 + observation.shape[1]) * (1 + items.shape[2])
    if n <= min(terms, MOST_TERMS):
        return _NOTHING
    seen = 1.0 / np.log2(np.arange(2, shown.shape[1] + 2))
    seen /= seen.sum()
    by_place = _described(observation, items, shown)  # [n, k, P]
    weights = np.zeros(by_place.shape[2])
    for _ in range(ROUNDS):
        x = np.einsum("nkp,k->np", by_place, seen)
        gram = x.T @ x + RIDGE * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, x.T @ reward)
        places = by_place @ weights  # [n, k], of each item at a place that all see
        spread = places.T @ places + RIDGE * np.eye(len(seen))
        found = np.linalg.solve(spread, places.T @ reward + RIDGE * seen)
        seen = np.maximum(found, 1e-3)
        seen /= seen.sum()
    x = np.einsum("nkp,k->np", by_place, seen)
    gram = x.T @ x + RIDGE * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x.T @ reward)
    residual = reward - x @ weights
    variance = float(residual @ residual) / (n - min(x.shape[1], n - 1))
    moved = _described(observation, items, candidate) - _described(observation, items, baseline)
    mean_move = np.einsum("nkp,k->p", moved, seen) / n
    mean = float(mean_move @ weights)
    error = math.sqrt(variance * float(mean_move @ np.linalg.solve(gram, mean_move)))
    if error <= ROUNDING * float(np.max(np.abs(reward))):  # they would show the same lists
        return Interval(mean, -math.inf, math.inf, n)
    width = NormalDist().inv_cdf((1.0 + confidence) / 2) * error
    return Interval(mean, mean - width, mean + width, n)


def _described(observation: np.ndarray, items: np.ndarray, places: np.ndarray) -> np.ndarray:
    """What stands at each place: 1, item, context × item; zeros where it is empty. `[n, k, P]`

    The context alone would earn the same whatever is shown.
    """
    n, k = places.shape
    picked = items[np.arange(n)[:, None], np.maximum(places, 0)].astype(np.float64)  # [n, k, F]
    context = np.concatenate([np.ones((n, 1)), observation], axis=1)  # [n, 1 + D]
    if context.shape[1] * (1 + picked.shape[2]) > MOST_TERMS:
        context = context[:, :1]
    picked = np.concatenate([np.ones((n, k, 1)), picked], axis=2)
    crossed = np.einsum("nd,nkf->nkdf", context, picked).reshape(n, k, -1)
    return np.asarray(crossed * (places >= 0)[:, :, None])
