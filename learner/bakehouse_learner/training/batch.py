"""What passes between the ring and an agent: arrays of fixed shape, and nothing else."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """N minibatches of B rows, ready for one call of the compiled training function."""

    observation: np.ndarray  # float32 [N, B, D], as encoded (the agent normalises)
    eligible: np.ndarray  # bool    [N, B, A]
    action: np.ndarray  # int32   [N, B], positions of labels; else float32 [N, B, W]
    reward: np.ndarray  # float32 [N, B], of episodic problems the n-step discounted sum
    discount: np.ndarray  # float32 [N, B], γ^k before bootstrapping; 0: terminal, or a bandit
    next_observation: np.ndarray  # float32 [N, B, D], zeros where discount is 0
    next_eligible: np.ndarray  # bool    [N, B, A], all True where discount is 0
    weight: np.ndarray  # float32 [N, B], 0 on padding
    propensity: np.ndarray | None = None  # float32 [N, B], as logged; None: as if it were 1
    items: np.ndarray | None = None  # float32 [N, B, A, F], of a ranking
    resident: int = 0  # decisions that the rows were drawn from; 0: take the rows for all there are


class Rows(NamedTuple):
    """All trainable rows of the ring, for agents whose statistics are recomputed from it."""

    observation: np.ndarray  # float32 [n, D]
    action: np.ndarray  # int32   [n]
    reward: np.ndarray  # float32 [n]
