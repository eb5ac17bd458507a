"""How numbers are said to people."""

from __future__ import annotations

import math
from datetime import timedelta


def duration_words(duration: timedelta) -> str:
    """`30 minutes`, `1.5 seconds`: in the largest unit that leaves a short number."""
    seconds = duration.total_seconds()
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1)):
        if seconds >= length or unit == "seconds":
            count = seconds / length
            return f"{count:g} {unit[:-1] if count == 1 else unit}"
    raise AssertionError("unreachable")


def span(seconds: float) -> str:
    """How long something took, to about two digits: `7 ms`, `0.4 s`, `12 s`, `3.2 min`, `2 d`."""
    if 0 < seconds < 0.1:
        return f"{1000 * seconds:.0f} ms"
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if seconds >= 2 * length or unit == "s":
            count = seconds / length
            number = f"{count:.1f}".removesuffix(".0") if count < 9.95 else f"{count:.0f}"
            return f"{number} {unit}"
    raise AssertionError("unreachable")


def short_duration(ms: float) -> str:
    """The same of milliseconds."""
    return span(ms / 1000)


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


def listed(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
