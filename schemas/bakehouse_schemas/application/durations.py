"""Durations as an application file writes them."""

from __future__ import annotations

from datetime import timedelta

from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.numbers import in_short, is_finite

_CENTURY = timedelta(days=36_525)


def seconds(n: float) -> timedelta:
    """A duration of `n` seconds."""
    return _duration("seconds", n)


def minutes(n: float) -> timedelta:
    """A duration of `n` minutes."""
    return _duration("minutes", n)


def hours(n: float) -> timedelta:
    """A duration of `n` hours."""
    return _duration("hours", n)


def _duration(unit: str, n: float) -> timedelta:
    if not is_finite(n) or abs(n) > _CENTURY.total_seconds():
        raise ApplicationError(
            f"{unit}({in_short(n)}): expected a number, such as {unit}(30), and no century"
        )
    return timedelta(**{unit: n})
