"""With what probability, or density, would a policy act in contexts that are resident?"""

from __future__ import annotations

import numpy as np

from bakehouse_learner.replay.ring import Ring
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.execution.base_policy import baseline_policy
from bakehouse_schemas.execution.propensity import propensities
from bakehouse_schemas.policy.policy import Policy


def baseline_distribution(ring: Ring, slots: np.ndarray) -> np.ndarray:
    """Probability one on the baseline's action, all zeros where it has none. float64 `[n, A]`"""
    distribution = np.zeros((len(slots), ring.eligible.shape[1]))
    known = np.flatnonzero(ring.has_baseline[slots])
    distribution[known, ring.baseline[slots[known]]] = 1.0
    return distribution


def distribution_of(policy: Policy | None, ring: Ring, slots: np.ndarray) -> np.ndarray:
    """What a policy (None: version 0, the baseline) answers to resident contexts. `[n, A]`"""
    if policy is None:
        return baseline_distribution(ring, slots)
    return policy.distribution(ring.observation[slots], ring.eligible[slots])


def propensity_of(
    policy: Policy | None, exploration: Exploration, ring: Ring, slots: np.ndarray
) -> np.ndarray:
    """Density with which a policy (None: version 0) would have executed resident actions. `[n]`

    The executed density is what is evaluated, never a deterministic action, which no logged
    number would ever equal.
    """
    shape, eligible = ring.shape, ring.eligible[slots]
    if policy is None:
        base_policy = baseline_policy(shape, ring.baseline[slots], exploration)
    else:
        items = ring.items[slots] if shape.kind == "ranking" else None
        temperature = exploration.temperature if exploration.kind == "softmax" else None
        base_policy = policy.base_policy(
            ring.observation[slots], eligible, items, temperature=temperature
        )
    return propensities(shape, base_policy, eligible, ring.action[slots], exploration)
