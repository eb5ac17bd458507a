"""Random transitions that every contender of `tests.bench.peers` fills its buffer with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Transitions(NamedTuple):
    """n transitions of one step."""

    observation: np.ndarray  # float32 [n, D]
    action: np.ndarray  # int32   [n]
    reward: np.ndarray  # float32 [n]
    terminal: np.ndarray  # bool    [n], nothing follows
    next_observation: np.ndarray  # float32 [n, D]


class Pairs(NamedTuple):
    """The same as pairs of steps, the way TF-Agents stores them."""

    observation: np.ndarray  # float32 [n, 2, D]
    action: np.ndarray  # int32   [n, 2]
    reward: np.ndarray  # float32 [n, 2]
    discount: np.ndarray  # float32 [n, 2], without γ; 0: terminal


def random_transitions(count: int, *, size: int, actions: int, seed: int = 0) -> Transitions:
    """`count` transitions, three in ten of them terminal."""
    rng = np.random.default_rng(seed)
    return Transitions(
        observation=rng.random((count, size), np.float32),
        action=rng.integers(0, actions, count).astype(np.int32),
        reward=rng.normal(size=count).astype(np.float32),
        terminal=rng.random(count) < 0.3,
        next_observation=rng.random((count, size), np.float32),
    )


def pairs_of(transitions: Transitions) -> Pairs:
    """What the second step did, and what came of it, is never read: it repeats the first."""

    def twice(values: np.ndarray) -> np.ndarray:
        return np.repeat(values[:, None], 2, axis=1)

    return Pairs(
        observation=np.stack([transitions.observation, transitions.next_observation], axis=1),
        action=twice(transitions.action),
        reward=twice(transitions.reward),
        discount=twice((~transitions.terminal).astype(np.float32)),
    )
