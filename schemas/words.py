"""How numbers are said to people."""

from __future__ import annotations

from datetime import timedelta


def duration_words(duration: timedelta) -> str:
    """`30 minutes`, `1.5 seconds`: in the largest unit that leaves a short number."""
    seconds = duration.total_seconds()
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1)):
        if seconds >= length or unit == "seconds":
            count = seconds / length
            return f"{count:g} {unit[:-1] if count == 1 else unit}"
    raise AssertionError("unreachable")


def short_duration(ms: float) -> str:
    """How long something took, in milliseconds, to about two digits: `0.4 s`, `12 s`, `3.2 min`."""
    seconds = ms / 1000
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def listed(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
