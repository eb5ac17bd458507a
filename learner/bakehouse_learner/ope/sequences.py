"""What would a policy have earned an episode, from episodes that another one played?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bakehouse_learner.ope.bandits import importance_weights
from bakehouse_learner.ope.estimate import Contributions, plain


class Episodes(NamedTuple):
    """Whole episodes, a row a decision, in any order; arrays are `[n]`.

    Every episode has the steps 0, 1, … without a gap, and was over after its last.
    """

    episode: np.ndarray  # int, the same for all decisions of one episode
    step: np.ndarray  # int, from 0
    target: np.ndarray  # float, the evaluated policy's probability or density of the action
    propensity: np.ndarray  # float, that with which it was chosen
    reward: np.ndarray  # float
    discount: float  # γ in (0, 1]


class _Padded(NamedTuple):
    """Episodes as rows `[m, T]`; after its end an episode earns 0 and keeps its weight."""

    at: tuple[np.ndarray, np.ndarray]  # where each of the n rows lies
    weight: np.ndarray  # `Π_{s ≤ t} w_s`
    before: np.ndarray  # `Π_{s < t} w_s`
    reward: np.ndarray
    discounts: np.ndarray  # γ^t, [T]


def per_decision_is(episodes: Episodes) -> Contributions:
    """Mean over episodes of `Σ_t γ^t (Π_{s ≤ t} w_s) r_t` (Precup, Sutton & Singh 2000)."""
    padded = _pad(episodes)
    values = (padded.weight * padded.reward) @ padded.discounts
    return plain("per-decision is", values, padded.weight[:, -1])


def weighted_per_decision_is(episodes: Episodes) -> Contributions:
    """The same, each step normalised by the weights at that step (Precup et al. 2000).

    An episode that is over counts in the later steps with the weight that it ended with, earning
    nothing there; else long episodes would stand for all. float64 `[m, T]` a column a step.
    """
    padded = _pad(episodes)
    numerator = padded.discounts * padded.weight * padded.reward
    return Contributions("weighted is", numerator, padded.weight, padded.weight[:, -1])


def doubly_robust_sequences(
    episodes: Episodes, *, q_taken: np.ndarray, v: np.ndarray
) -> Contributions:
    """`Σ_t γ^t [Π_{s<t} w_s · v_t + Π_{s≤t} w_s (r_t − q_t)]` (Jiang & Li 2016, their
    recursion written out).

    Args:
        q_taken: the model's value of each logged decision's action, float `[n]`.
        v: its value of the evaluated policy there, `Σ_a π(a) q(a)`, float `[n]`. The model must
            not have learned from the episode it values.
    """
    padded = _pad(episodes)
    q_at, v_at = np.zeros_like(padded.reward), np.zeros_like(padded.reward)
    for name, into, values in (("q_taken", q_at, q_taken), ("v", v_at, v)):
        _check_rows(name, values, len(episodes.episode))
        into[padded.at] = values
    gained = padded.before * v_at + padded.weight * (padded.reward - q_at)
    return plain("doubly robust", gained @ padded.discounts, padded.weight[:, -1])


def fitted_q_direct(start_values: np.ndarray) -> Contributions:
    """What fitted Q alone says of each episode's start, float `[m]`: as good as its fit."""
    values = np.asarray(start_values, dtype=np.float64)
    _check_rows("start_values", values, len(values))
    return plain("fitted q", values, np.ones(len(values)), spread_is_error=False)


def logged_returns(episodes: Episodes) -> Contributions:
    """Discounted returns of the episodes as they were played."""
    padded = _pad(episodes)
    values = padded.reward @ padded.discounts
    return plain("as logged", values, np.ones(len(values)))


def _pad(episodes: Episodes) -> _Padded:
    weight = importance_weights(episodes.target, episodes.propensity)
    n = len(weight)
    _check_rows("reward", episodes.reward, n)
    if not 0 < episodes.discount <= 1:
        raise ValueError(f"discount is {episodes.discount}: expected in (0, 1]")
    _, row, length = np.unique(episodes.episode, return_inverse=True, return_counts=True)
    steps = int(length.max()) if n else 1
    step = np.asarray(episodes.step)
    filled = np.zeros((len(length), steps), dtype=np.int64)
    inside = (step >= 0) & (step < (length[row] if n else 0))
    np.add.at(filled, (row[inside], step[inside]), 1)
    if not inside.all() or np.any(filled != (np.arange(steps) < length[:, None])):
        raise ValueError(
            "steps of an episode must be 0, 1, 2, … without a gap or a repeat; nothing was "
            "estimated"
        )
    ratio, reward = np.ones(filled.shape), np.zeros(filled.shape)
    ratio[row, step] = weight
    reward[row, step] = episodes.reward
    with np.errstate(over="ignore"):
        product = np.cumprod(ratio, axis=1)
    if not np.isfinite(product).all():
        raise ValueError(
            "the product of an episode's weights is beyond floating point: it is too long for "
            "importance weights; nothing was estimated"
        )
    before = np.concatenate([np.ones((len(length), 1)), product[:, :-1]], axis=1)
    discounts = float(episodes.discount) ** np.arange(steps)
    return _Padded((row, step), product, before, reward, discounts)


def _check_rows(name: str, values: np.ndarray, n: int) -> None:
    if np.shape(values) != (n,):
        raise ValueError(f"{name} has shape {np.shape(values)}: expected ({n},)")
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise ValueError(f"{bad} values of {name} are not finite; nothing was estimated")
