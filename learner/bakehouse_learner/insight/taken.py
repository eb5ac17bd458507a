"""What figures are counted from: matured decisions, as columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bakehouse_learner.replay.origin import CANARY, HOLDOUT, POLICY
from bakehouse_learner.replay.ring import Ring
from bakehouse_schemas.application.shape import Shape


class Taken(NamedTuple):
    """Decisions in the order they were read, `[n]` each; contested ones are left out."""

    received_at_ms: np.ndarray  # int64
    subject: np.ndarray  # uint64, see `bakehouse_learner.replay.origin.subject_hash`
    version: np.ndarray  # int64
    by_policy: np.ndarray  # bool, cohorts policy and canary, version 0 among them
    holdout: np.ndarray  # bool
    support: np.ndarray  # bool, importance weights may use it
    reward: np.ndarray  # float64, when it matured
    row: np.ndarray  # float64 [n, W], see `bakehouse_schemas.application.shape.Shape`
    baseline: np.ndarray  # float64 [n, W], −1 where it has no answer
    eligible: np.ndarray  # bool [n, A]
    propensity: np.ndarray  # float64
    factors: np.ndarray  # float64 [n, P], of several parts each part's propensity

    def where(self, rows: np.ndarray) -> Taken:
        """Some of them; `rows` is a mask."""
        return Taken(*(column[rows] for column in self))


def taken(ring: Ring, slots: np.ndarray) -> Taken:
    """The usable ones of these slots."""
    slots = slots[ring.usable[slots]]
    cohort = ring.cohort[slots]
    size = len(slots)
    baseline = ring.baseline[slots].reshape(size, -1).astype(np.float64)
    baseline[~ring.has_baseline[slots]] = -1.0
    return Taken(
        received_at_ms=ring.received_at_ms[slots],
        subject=ring.subject[slots],
        version=ring.policy_version[slots],
        by_policy=(cohort == POLICY) | (cohort == CANARY),
        holdout=cohort == HOLDOUT,
        support=ring.support[slots],
        reward=ring.reward[slots],
        row=ring.action[slots].reshape(size, -1).astype(np.float64),
        baseline=baseline,
        eligible=ring.eligible[slots],
        propensity=ring.propensity[slots],
        factors=ring.factors[slots],
    )


def uniform_propensity(shape: Shape, eligible: np.ndarray) -> np.ndarray:
    """Probability, or density, of any one action under a uniform choice. float64 `[n]`

    Of a ranking: over the lists, in order, that the eligible items make.

    Args:
        eligible: bool `[n, A]`
    """
    chance = np.ones(len(eligible))
    if shape.kind == "ranking":
        left = eligible.sum(axis=1)
        for place in range(shape.slots):
            chance /= np.maximum(left - place, 1)
        return chance
    for start, stop in shape.segments:
        chance /= np.maximum(eligible[:, start:stop].sum(axis=1), 1)
    return np.asarray(chance / np.prod(shape.high - shape.low))


def ineligible(shape: Shape, rows: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    """Which actions hold a choice that was not eligible. bool `[n]`

    Args:
        rows: float64 `[n, W]`
        eligible: bool `[n, A]`
    """
    at, wrong = np.arange(len(rows)), np.zeros(len(rows), dtype=bool)
    if shape.kind == "ranking":
        for place in range(shape.slots):
            item = rows[:, place].astype(int)
            wrong |= (item >= 0) & ~eligible[at, np.maximum(item, 0)]
        return wrong
    for part, (start, _) in enumerate(shape.segments):
        wrong |= ~eligible[at, start + rows[:, part].astype(int)]
    return wrong
