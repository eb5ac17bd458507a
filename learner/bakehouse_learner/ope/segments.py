"""Where in the log does a policy earn more, and where less? Units by a field of their context."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

QUANTILES = 4
MOST = 12  # segments by value; of numbers with more values quantiles are made
NOT_GIVEN, OTHERS = "not given", "all others"


def segments(values: Sequence[Any], *, quantiles: int = QUANTILES) -> dict[str, np.ndarray]:
    """Which units belong to which segment: name → bool mask `[n]`. Every unit is in one.

    Numbers of more than `MOST` different values are cut at their quantiles, named by their
    ranges; other values are segments of their own, the rarest together beyond `MOST`. A field
    that is missing, or holds a list or an object, is a segment too.
    """
    numbers = [v for v in values if _is_number(v)]
    if len(set(numbers)) > MOST:
        return _by_quantile(values, np.array(numbers, dtype=np.float64), quantiles)
    names = [_name(value) for value in values]
    order = sorted(Counter(names).items(), key=lambda found: (-found[1], found[0]))
    kept = [name for name, _ in (order if len(order) <= MOST else order[: MOST - 1])]
    made = {name: np.array([each == name for each in names]) for name in kept}
    if len(kept) < len(order):
        made[OTHERS] = ~np.logical_or.reduce(list(made.values()))
    return made


def _by_quantile(
    values: Sequence[Any], numbers: np.ndarray, quantiles: int
) -> dict[str, np.ndarray]:
    edges = np.unique(np.quantile(numbers, np.linspace(0.0, 1.0, quantiles + 1)))
    column = np.array([float(v) if _is_number(v) else math.nan for v in values])
    # upper edges belong to the segment below, as does the least to the first
    at = np.clip(np.searchsorted(edges, column, side="left") - 1, 0, max(len(edges) - 2, 0))
    given = ~np.isnan(column)
    ranges = list(pairwise(edges.tolist()))
    names = [f"{low:.4g} to {high:.4g}" for low, high in ranges]
    if len(set(names)) < len(names):  # too close for four digits
        names = [f"{low!r} to {high!r}" for low, high in ranges]
    made = {name: given & (at == k) for k, name in enumerate(names)}
    if not given.all():
        made[NOT_GIVEN] = ~given
    return made


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _name(value: Any) -> str:
    if value is None or isinstance(value, (list, dict)):
        return NOT_GIVEN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
