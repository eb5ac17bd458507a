"""Numbers and spans as people read them, in sentences and on the page."""

from __future__ import annotations

import math

_SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def span(seconds: float) -> str:
    """A duration with one unit: `12 s`, `3 min`, `4 h`, `2 d`."""
    for length, unit in _SPANS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def signed(value: float, digits: int = 1) -> str:
    """`+8.4`, `−0.3`; a minus that cannot be taken for a hyphen."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−")


def digits_for(width: float) -> int:
    """Digits after the point with which an interval of this width shows two that count."""
    if not width > 0:
        return 1
    return min(max(1 - math.floor(math.log10(width)), 1), 6)


def count(number: float) -> str:
    """`41,200`; from a million on `1.2 M`."""
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number:,.0f}"


def size(number: float) -> str:
    """Bytes in the unit that suits them."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"
