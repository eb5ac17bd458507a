"""When to train. Pure: the clock's reading arrives as an argument."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Cadence:
    """The least time between the starts of two trainings; nothing new, no training."""

    every: timedelta

    def is_due(self, *, now: float, last: float | None, new: int) -> bool:
        """Whether to train.

        Args:
            now: seconds on a clock that does not jump.
            last: when the training before began; None before the first.
            new: experiences that are new or amended since.
        """
        return new > 0 and self.wait_s(now=now, last=last) <= 0

    def wait_s(self, *, now: float, last: float | None) -> float:
        """Seconds until the next training may begin."""
        if last is None:
            return 0.0
        return max(last + self.every.total_seconds() - now, 0.0)
