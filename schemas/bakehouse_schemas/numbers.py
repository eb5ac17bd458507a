"""What counts as a number where a person writes one: a page says `0.5`, not `"0.5"` or `True`."""

from __future__ import annotations

import math
from typing import Any


def is_finite(value: Any) -> bool:
    """Whether `value` is a number that a 64-bit float can hold, neither NaN nor infinite."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:  # a whole number beyond every float
        return False


def is_whole(value: Any, least: int, most: int) -> bool:
    """Whether `value` is a whole number (not `True`, not `3.0`) from `least` to `most`."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def in_short(value: Any) -> str:
    """`value` as a person would write it, cut short; whatever it is, this does not raise."""
    try:
        return f"{value!r:.60}"
    except Exception:  # a whole number of ten thousand digits has no repr, nor has many a class
        return f"a {type(value).__name__} that cannot be shown"


def is_text(value: Any, most: int = 200) -> bool:
    """Whether `value` is a text of 1 to `most` characters that every reader of an event can hold.

    Control characters are refused, and lone surrogates, which have no UTF-8.
    """
    return (
        isinstance(value, str)
        and 0 < len(value) <= most
        and not any(c < " " or "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\udfff" for c in value)
    )
