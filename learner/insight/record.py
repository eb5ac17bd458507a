"""Figures as one record: numbers as short as they may be, and no larger than a record may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson

MOST_BYTES = 64 << 10
DIGITS = 5  # that a number keeps
LEAST_CANDIDATES = 10
_LINES = ("policy", "holdout", "random")


def shortened(value: Any) -> Any:
    """The same with numbers of DIGITS digits; None for what JSON cannot carry."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: shortened(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [shortened(one) for one in value]
    return value


def fitted(record: dict[str, Any], most: int = MOST_BYTES) -> dict[str, Any]:
    """The record, made smaller until its JSON has at most so many bytes.

    First the oldest candidates are left out, down to LEAST_CANDIDATES; then every other point of
    the series, again and again; then all candidates.
    """
    insight = record["insight"]
    while len(orjson.dumps(record)) > most:
        candidates, times = insight["candidates"], insight["series"]["at_ms"]
        if len(candidates) > LEAST_CANDIDATES:
            insight["candidates"] = candidates[: max(LEAST_CANDIDATES, len(candidates) * 3 // 4)]
        elif len(times) > 1:
            insight["series"] = _thinned(insight["series"])
        elif candidates:
            insight["candidates"] = []
        else:
            break
    return record


def _thinned(series: Mapping[str, Any]) -> dict[str, Any]:
    """Every other point, the newest among them; counts of choices are those of what is left."""
    first = (len(series["at_ms"]) + 1) % 2

    def thin(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: thin(one) for name, one in value.items()}
        return value[first::2] if isinstance(value, list) else value

    return {name: thin(value) for name, value in series.items()}
