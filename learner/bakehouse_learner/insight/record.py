"""Figures as one record: numbers as short as they may be, and no larger than a record may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson

MOST_BYTES = 64 << 10
DIGITS = 5  # that a number keeps
LEAST_CANDIDATES = 10
_AS_THEY_ARE = frozenset({int, str, bool, type(None)})


def shortened(value: Any) -> Any:
    """The same with numbers of DIGITS digits; None for what JSON cannot carry."""
    kind = type(value)  # told by type, not by what it can do: this is done for ten thousand numbers
    if kind is float:
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if kind is list or kind is tuple:
        return [shortened(one) if type(one) not in _AS_THEY_ARE else one for one in value]
    if kind is dict:
        return {name: shortened(one) for name, one in value.items()}
    return shortened(float(value)) if isinstance(value, float) else value  # NumPy's own


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
