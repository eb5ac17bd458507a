"""The executed distribution: exploration, mask and floor, and the draw from it.

Computed, logged and drawn from in serving; recomputed from the log wherever a decision is
audited. This is the only place that knows the rule.
"""

from __future__ import annotations

import numpy as np


def executed_distribution(
    policy: np.ndarray, eligible: np.ndarray, *, epsilon: float, floor: float
) -> np.ndarray:
    """`(1 − ε)·policy + ε·uniform` over the eligible actions, no eligible one below `floor`.

    ε is raised where `ε / |eligible|` would be below the floor.

    Args:
        policy: the policy's own probabilities, zero on ineligible actions. float64 `[A]`
        eligible: mask with at least one True. bool `[A]`
        epsilon: configured exploration share.
        floor: least propensity of an eligible action.

    Returns:
        float64 `[A]`, sums to 1.
    """
    count = int(np.count_nonzero(eligible))
    share = min(1.0, max(epsilon, floor * count))
    executed = policy * (1.0 - share)
    executed += eligible * (share / count)
    return executed


def draw_action(executed: np.ndarray, draw: float) -> int:
    """Index of the action that a uniform `draw` in [0, 1) selects (inverse of the CDF)."""
    cumulative = executed.cumsum()
    at = int(cumulative.searchsorted(draw * cumulative[-1], side="right"))
    while at >= len(executed) or executed[at] <= 0.0:  # only rounding at the edge gets here
        at -= 1
    return at


def one_hot(position: int, size: int) -> np.ndarray:
    """Probability one on one action: the baseline's distribution. float64 `[A]`"""
    distribution = np.zeros(size, dtype=np.float64)
    distribution[position] = 1.0
    return distribution
