"""Apprenticeship: the policy learns to answer as the game's rules do, before it answers anyone.

The rules are sure of themselves, so their log has no action but theirs. An agent that learns
rewards is therefore asked a question of which every answer is known: half the time the rules'
action, half the time any other, rewarded by how well it matches. Pure.
"""

from __future__ import annotations

import numpy as np

from bakehouse_schemas.application.shape import Shape
from bakehouse_schemas.execution.base_policy import BasePolicy

DECISIONS_TO_COUNT = 500  # decisions before it counts
SAME_WITHIN = 0.05  # of a number's range: as good as the same
MATCH_SLACK = 0.05  # below the wanted rate before a step back


def matches(shape: Shape, base_policy: BasePolicy, baseline: np.ndarray) -> np.ndarray:
    """Whether a policy's most likely answer is the baseline's: each label the same, each number
    within a twentieth of its range. bool `[n]`

    Args:
        base_policy: of the n contexts.
        baseline: float64 `[n, W]`
    """
    agree = np.ones(len(baseline), dtype=bool)
    for part, (start, stop) in enumerate(shape.segments):
        agree &= base_policy.probabilities[:, start:stop].argmax(axis=1) == baseline[:, part]
    if shape.dims:
        span = shape.high - shape.low
        mean = base_policy.mean
        if base_policy.squashed:
            mean = shape.low + span * (1 + np.tanh(mean)) / 2
        numbers = baseline[:, len(shape.segments) :]
        agree &= (np.abs(mean - numbers) <= SAME_WITHIN * span).all(axis=1)
    return agree


def asked_of_an_apprentice(
    shape: Shape, baseline: np.ndarray, eligible: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Actions, and how well each matches: 1 the baseline's, down to 0.

    Args:
        baseline: float64 `[n, W]`
        eligible: bool `[n, A]`

    Returns:
        actions float64 `[n, W]`, rewards float32 `[n]`
    """
    rows = baseline.copy()
    other = rng.random(len(rows)) < 0.5
    closeness = np.zeros(len(rows))
    for part, (start, stop) in enumerate(shape.segments):
        weights = rng.random((len(rows), stop - start)) * eligible[:, start:stop]
        drawn = weights.argmax(axis=1)
        rows[:, part] = np.where(other, drawn, rows[:, part])
        closeness += rows[:, part] == baseline[:, part]
    if shape.dims:
        span = shape.high - shape.low
        at = len(shape.segments)
        uniform = shape.low + span * rng.random((len(rows), shape.dims))
        rows[:, at:] = np.where(other[:, None], uniform, rows[:, at:])
        closeness += (1.0 - np.abs(rows[:, at:] - baseline[:, at:]) / span).sum(axis=1)
    return rows, (closeness / shape.width).astype(np.float32)
