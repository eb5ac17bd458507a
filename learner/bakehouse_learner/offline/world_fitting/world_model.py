"""What is an action worth to a player? A model fitted to a log, for a world to answer with.

Of labels two are fitted, and the one that errs less on rows set aside is fitted again to all: a
line of its own for each label, or a small network of context and label together. Lines win where
rewards are rare and labels many; where a reward has a threshold they see a slope, and the network
wins. Of numbers the network alone is fitted. It is the mean of several, each stopped by rows that
it does not learn from, so that of noise nothing is learned but its mean. Pure NumPy.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bakehouse_learner.ope.reward_model import RewardModel
from bakehouse_schemas.application.actions import Discrete
from bakehouse_schemas.policy.network import Operation, compile_network
from bakehouse_schemas.worlds.fitted_world import Space, action_numbers

MEMBERS = 3
HIDDEN = 48
BATCH = 256
MOST_STEPS, LEAST_EPOCHS = 2_000, 4  # of a member
PATIENCE = 5  # epochs without a better one before a member stops
ASIDE = 0.15  # share of rows by which it stops, and of those by which a model is chosen
RIDGES = (3.0, 10.0, 30.0)  # rows' worth of shrinkage of a line towards the common mean, tried
LEARNING_RATE = 4e-3
DECAY = 1e-4  # of weights, a step, in units of the learning rate (Loshchilov & Hutter 2019)
Weights = list[np.ndarray]  # w1 [K, H], b1 [H], w2 [H, H], b2 [H], w3 [H, 1], b3 [1]


class Network(NamedTuple):
    """Operations and arrays of `bakehouse_schemas.policy.network`."""

    operations: list[Operation]
    arrays: dict[str, np.ndarray]


def fit_model(
    observations: np.ndarray, rows: np.ndarray, rewards: np.ndarray, space: Space, *, seed: int = 0
) -> Network:
    """The better of the models above; see `bakehouse_schemas.worlds.fitted_world.Fitted`.

    Args:
        observations: normalised, float32 `[n, D]`, n ≥ 1
        rows: actions, float64 `[n, W]`
        rewards: float64 `[n]`
    """
    inputs = np.concatenate([observations, action_numbers(space, rows)], axis=1)
    if not isinstance(space, Discrete):
        return fit_network(inputs, rewards, seed=seed)
    labels, count = rows[:, 0].astype(int), len(space)
    order = np.random.default_rng([seed, 1]).permutation(len(rewards))
    aside = int(ASIDE * len(order))
    check, learn = order[:aside], order[aside:]
    least, chosen = math.inf, RIDGES[0]
    for ridge in RIDGES:
        lines = fit_lines(observations[learn], labels[learn], rewards[learn], count, ridge)
        said = compile_network(lines.operations, lines.arrays)(observations[check])
        error = float(np.sum((said[np.arange(aside), labels[check]] - rewards[check]) ** 2))
        if error < least:
            least, chosen = error, ridge
    network = fit_network(inputs[learn], rewards[learn], seed=seed)
    bent = compile_network(network.operations, network.arrays)(inputs[check])[:, 0]
    if np.sum((bent - rewards[check]) ** 2) < least:
        return fit_network(inputs, rewards, seed=seed)
    return fit_lines(observations, labels, rewards, count, chosen)


def fit_lines(
    observations: np.ndarray, labels: np.ndarray, rewards: np.ndarray, count: int, ridge: float
) -> Network:
    """Ridge regression of each label's rewards. Float32 `[n, D]` → `[n, count]`"""
    model = RewardModel(count, observations.shape[1], ridge=ridge)
    model.update(observations, labels, rewards)
    found = model.coefficients().astype(np.float32)
    arrays = {"w1": np.ascontiguousarray(found[:, 1:].T), "b1": found[:, 0]}
    return Network([{"op": "dense", "weight": "w1", "bias": "b1"}], arrays)


def fit_network(inputs: np.ndarray, rewards: np.ndarray, *, seed: int = 0) -> Network:
    """The mean of `MEMBERS` networks of two hidden layers, by least squares.

    Args:
        inputs: of about one. float32 `[n, K]`, n ≥ 1
        rewards: float64 `[n]`
    """
    mean, deviation = float(np.mean(rewards)), float(np.std(rewards))
    scaled = ((rewards - mean) / (deviation or 1.0)).astype(np.float32)
    rng = np.random.default_rng(seed)
    members = [_member(inputs, scaled, rng) for _ in range(MEMBERS)]
    return _as_one(members, mean, deviation)


def _member(inputs: np.ndarray, targets: np.ndarray, rng: np.random.Generator) -> Weights:
    order = rng.permutation(len(inputs))
    aside = max(int(ASIDE * len(order)), min(len(order), 1))
    check, learn = order[:aside], order[aside:]
    weights = _begin(inputs.shape[1], rng)
    if len(learn) == 0:
        return weights
    first, second = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    best, least = [w.copy() for w in weights], _error(weights, inputs[check], targets[check])
    steps, epochs, since = 0, 0, 0
    while since < PATIENCE and (steps < MOST_STEPS or epochs < LEAST_EPOCHS):
        for rows in np.array_split(rng.permutation(learn), max(len(learn) // BATCH, 1)):
            steps += 1
            rate = LEARNING_RATE * max(1.0 - steps / (1.5 * MOST_STEPS), 0.1)
            slopes = _slopes(weights, inputs[rows], targets[rows])
            for w, slope, m, v in zip(weights, slopes, first, second, strict=True):
                m += 0.1 * (slope - m)  # Adam (Kingma & Ba 2015): β₁ = 0.9, β₂ = 0.999
                v += 0.001 * (slope**2 - v)
                bounded = m / (1 - 0.9**steps) / (np.sqrt(v / (1 - 0.999**steps)) + 1e-8)
                w -= rate * (bounded + (DECAY * w if w.ndim == 2 else 0.0))
        epochs, since = epochs + 1, since + 1
        error = _error(weights, inputs[check], targets[check])
        if error < least:
            best, least, since = [w.copy() for w in weights], error, 0
    return best


def _begin(width: int, rng: np.random.Generator) -> Weights:
    """Hidden layers as He et al. (2015) begin them; an answer of 0, which is the mean reward."""

    def dense(inputs: int) -> np.ndarray:
        drawn = rng.normal(0.0, np.sqrt(2.0 / max(inputs, 1)), (inputs, HIDDEN))
        return drawn.astype(np.float32)

    still = np.zeros(HIDDEN, np.float32)
    last = np.zeros((HIDDEN, 1), np.float32)
    return [dense(width), still, dense(HIDDEN), still.copy(), last, np.zeros(1, np.float32)]


def _error(weights: Weights, x: np.ndarray, y: np.ndarray) -> float:
    w1, b1, w2, b2, w3, b3 = weights
    hidden = np.maximum(np.maximum(x @ w1 + b1, 0) @ w2 + b2, 0)
    return float(np.mean(((hidden @ w3 + b3)[:, 0] - y) ** 2))


def _slopes(weights: Weights, x: np.ndarray, y: np.ndarray) -> Weights:
    """Of half the mean squared error, by each weight."""
    w1, b1, w2, b2, w3, b3 = weights
    h1 = np.maximum(x @ w1 + b1, 0)
    h2 = np.maximum(h1 @ w2 + b2, 0)
    d3 = (h2 @ w3 + b3 - y[:, None]) / np.float32(len(y))  # [B, 1]
    d2 = (d3 @ w3.T) * (h2 > 0)
    d1 = (d2 @ w2.T) * (h1 > 0)
    return [x.T @ d1, d1.sum(axis=0), h1.T @ d2, d2.sum(axis=0), h2.T @ d3, d3.sum(axis=0)]


def _as_one(members: list[Weights], mean: float, deviation: float) -> Network:
    """Members side by side, in one network that answers their mean in units of reward."""
    count, size = len(members), len(members) * HIDDEN
    middle = np.zeros((size, size), np.float32)
    for at, member in enumerate(members):
        block = slice(at * HIDDEN, (at + 1) * HIDDEN)
        middle[block, block] = member[2]
    last = np.concatenate([member[4] for member in members]) * (deviation / count)
    bias = mean + deviation * np.mean([member[5] for member in members], axis=0)
    arrays = {
        "w1": np.concatenate([member[0] for member in members], axis=1),
        "b1": np.concatenate([member[1] for member in members]),
        "w2": middle,
        "b2": np.concatenate([member[3] for member in members]),
        "w3": last.astype(np.float32),
        "b3": np.asarray(bias, np.float32),
    }
    operations: list[Operation] = [
        {"op": "dense", "weight": "w1", "bias": "b1"},
        {"op": "relu"},
        {"op": "dense", "weight": "w2", "bias": "b2"},
        {"op": "relu"},
        {"op": "dense", "weight": "w3", "bias": "b3"},
    ]
    return Network(operations, arrays)
