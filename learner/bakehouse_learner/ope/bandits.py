"""What would a policy have earned a decision, from decisions that another one made?

All take float arrays `[n]`, one entry a logged decision:

- `target`: probability (or density) that the evaluated policy gives the logged action,
- `propensity`: that with which it was chosen, above 0 (at most 1 where it is a probability),
- `reward`: matured,
- `predicted`: a model's reward of the logged action, `predicted_mean`: its mean over the actions
  of the evaluated policy. The model must not have learned from the row it predicts for.

With densities, both must be of the same measure. All raise ValueError where the arrays differ in
length, a value is not finite, a propensity is not above 0 or a target is below 0.
"""

from __future__ import annotations

import math

import numpy as np

from bakehouse_learner.ope.estimate import Contributions, plain

SWITCH_CANDIDATES = 50  # thresholds tried, at quantiles of the weights


def ips(target: np.ndarray, propensity: np.ndarray, reward: np.ndarray) -> Contributions:
    """Inverse propensity: the mean of `w r`, `w = target / propensity` (Horvitz & Thompson 1952).

    Unbiased where the log tries whatever the target does.
    """
    weight = importance_weights(target, propensity)
    _check(weight, reward=reward)
    return plain("ips", weight * reward, weight)


def snips(target: np.ndarray, propensity: np.ndarray, reward: np.ndarray) -> Contributions:
    """Self-normalised: `Σ w r / Σ w` (Swaminathan & Joachims 2015).

    Biased by order 1/n, never outside the rewards seen, and moved by a shift of all rewards as
    much as they are.
    """
    weight = importance_weights(target, propensity)
    _check(weight, reward=reward)
    return Contributions("snips", (weight * reward)[:, None], weight[:, None], weight)


def clipped_ips(
    target: np.ndarray, propensity: np.ndarray, reward: np.ndarray, *, cap: float | None = None
) -> Contributions:
    """The mean of `min(w, cap) r`: less variance, biased where weights exceed the cap.

    Args:
        cap: default `√n`, at which both vanish together (Ionides 2008, "Truncated importance
            sampling").
    """
    weight = importance_weights(target, propensity)
    _check(weight, reward=reward)
    if cap is None:
        cap = math.sqrt(max(len(weight), 1))
    if not cap > 0:
        raise ValueError(f"cap is {cap}: expected above 0")
    clipped = np.minimum(weight, cap)
    return plain("clipped ips", clipped * reward, clipped)


def direct_method(predicted_mean: np.ndarray) -> Contributions:
    """What the model says, and nothing else: as good as the model, with no error of its own."""
    values = np.asarray(predicted_mean, dtype=np.float64)
    ones = np.ones(len(values))
    _check(ones, predicted_mean=values)
    return plain("direct method", values, ones, spread_is_error=False)


def doubly_robust(
    target: np.ndarray,
    propensity: np.ndarray,
    reward: np.ndarray,
    *,
    predicted: np.ndarray,
    predicted_mean: np.ndarray,
) -> Contributions:
    """`predicted_mean + w (r − predicted)`: right if model or propensities are (Dudík et al. 2011,
    "Doubly robust policy evaluation and learning")."""
    weight = importance_weights(target, propensity)
    _check(weight, reward=reward, predicted=predicted, predicted_mean=predicted_mean)
    return plain("doubly robust", predicted_mean + weight * (reward - predicted), weight)


def switch_dr(
    target: np.ndarray,
    propensity: np.ndarray,
    reward: np.ndarray,
    *,
    predicted: np.ndarray,
    predicted_mean: np.ndarray,
    threshold: float | None = None,
) -> Contributions:
    """Doubly robust where `w ≤ threshold`, the model alone beyond it (Wang, Agarwal & Dudík 2017,
    "Optimal and adaptive off-policy evaluation in contextual bandits").

    Args:
        threshold: default `switch_threshold` of the same rows.
    """
    weight = importance_weights(target, propensity)
    _check(weight, reward=reward, predicted=predicted, predicted_mean=predicted_mean)
    residual = reward - predicted
    if threshold is None:
        threshold = switch_threshold(weight, residual, predicted_mean)
    if not threshold >= 0:
        raise ValueError(f"threshold is {threshold}: expected 0 or above")
    kept = np.where(weight <= threshold, weight, 0.0)
    return plain("switch-DR", predicted_mean + kept * residual, kept)


def switch_threshold(weight: np.ndarray, residual: np.ndarray, predicted_mean: np.ndarray) -> float:
    """The threshold of least estimated squared error: variance + squared bound of the bias.

    The bound is the target's mass beyond τ times `max |r − predicted|` (Wang et al. 2017). The
    mass is estimated as `1 − mean(w 1[w ≤ τ])`: the rare large weights would overstate it.
    """
    if len(weight) == 0:
        return math.inf
    largest = float(np.max(np.abs(residual)))
    best, least = math.inf, math.inf
    tried = np.unique(np.quantile(weight, np.linspace(0.0, 1.0, SWITCH_CANDIDATES)))
    for threshold in tried[::-1]:  # of equals the largest: the least bias
        kept = weight <= threshold
        values = predicted_mean + np.where(kept, weight, 0.0) * residual
        beyond = 0.0 if kept.all() else max(1.0 - float(np.mean(np.where(kept, weight, 0.0))), 0.0)
        bias = beyond * largest
        error = float(np.var(values)) / len(values) + bias**2
        if error < least:
            best, least = float(threshold), error
    return best


def importance_weights(target: np.ndarray, propensity: np.ndarray) -> np.ndarray:
    """`target / propensity`, float64 `[n]`; see the module's docstring for what is refused."""
    target = np.asarray(target, dtype=np.float64)
    propensity = np.asarray(propensity, dtype=np.float64)
    if target.shape != propensity.shape or target.ndim != 1:
        raise ValueError(
            f"target has shape {target.shape} and propensity {propensity.shape}: expected one "
            "number of each for every decision"
        )
    wrong = ~(np.isfinite(propensity) & (propensity > 0))
    if wrong.any():
        raise ValueError(
            f"{int(wrong.sum())} of {len(propensity)} propensities are not above 0, such as "
            f"{propensity[wrong][0]}; nothing was estimated"
        )
    wrong = ~(np.isfinite(target) & (target >= 0))
    if wrong.any():
        raise ValueError(
            f"{int(wrong.sum())} of {len(target)} target probabilities are below 0 or no number, "
            f"such as {target[wrong][0]}; nothing was estimated"
        )
    return np.asarray(target / propensity)


def _check(weight: np.ndarray, **arrays: np.ndarray) -> None:
    for name, values in arrays.items():
        if np.shape(values) != weight.shape:
            raise ValueError(f"{name} has shape {np.shape(values)}: expected {weight.shape}")
        bad = int(np.sum(~np.isfinite(values)))
        if bad:
            raise ValueError(f"{bad} values of {name} are not finite; nothing was estimated")
