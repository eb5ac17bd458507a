"""Actions as columns that effects can be told by, whatever kind they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bakehouse_learner.offline.advice.dependence import Contexts, contrasts, fitted
from bakehouse_learner.offline.advice.sample import Sample


class Columns(NamedTuple):
    """What was done, `taken`, and what of it the context does not explain, `apart`. `[n, K]`"""

    taken: np.ndarray
    apart: np.ndarray
    exact: bool  # by the logged propensities; else by a fit


def columns_of(sample: Sample, slots: np.ndarray, contexts: Contexts) -> Columns | None:
    """Labels, parts and numbers; None of rankings, whose items are others each time."""
    ring, shape = sample.ring, sample.application.shape
    if shape.kind == "ranking":
        return None
    if ring.labels:
        action = ring.action[slots]
        taken = np.eye(shape.choices)[action]
        apart = contrasts(action, ring.propensity[slots], ring.eligible[slots])
        return Columns(taken, apart, exact=True)
    rows = ring.action[slots]
    parts = []
    for at, (start, stop) in enumerate(shape.segments):
        parts.append(np.eye(stop - start)[rows[:, at].astype(np.int64)])
    if shape.dims:
        numbers = rows[:, len(shape.segments) :]
        even = (numbers - shape.low) / (shape.high - shape.low) - 0.5
        parts += [even, even**2 - (even**2).mean(axis=0)]
    taken = np.concatenate(parts, axis=1)
    return Columns(taken, taken - fitted(contexts, taken), exact=False)
