"""Where does the time of a training go?"""

from __future__ import annotations

import time


class Laps:
    """Seconds of each lap since the one before, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """A lap is over."""
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now
