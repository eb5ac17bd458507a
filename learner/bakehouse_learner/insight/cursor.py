"""Which decisions have matured since the last look? Each once, in the order they were read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bakehouse_learner.replay.ring import Ring


class Cursor:
    """A place in a ring; decisions below it have been taken, or will never be."""

    def __init__(self) -> None:
        self.at = 0  # sequence of the first that has not been taken
        self.watermark_ms = -1  # latest broker time of a decision that was taken
        self.skipped = 0  # left the buffer first

    def begin(self, ring: Ring) -> None:
        """Take what comes from now on alone."""
        self.at = ring.head

    def go_on_in(self, ring: Ring) -> None:
        """The ring was rebuilt from the table, in order of broker times: go on behind the latest
        that was taken, so that none is taken twice."""
        slots = ring.slots(ring.tail, ring.head)
        later = np.flatnonzero(ring.received_at_ms[slots] > self.watermark_ms)
        self.at = ring.tail + int(later[0]) if len(later) else ring.head

    def take(self, ring: Ring, stream_time_ms: int) -> np.ndarray:
        """Slots of decisions up to the first that is still open."""
        self.catch_up(ring)
        slots = ring.slots(self.at, ring.head)
        still_open = np.flatnonzero(~ring.is_mature(slots, stream_time_ms))
        slots = slots[: still_open[0]] if len(still_open) else slots
        self.moved(ring, slots, self.at + len(slots))
        return slots

    def catch_up(self, ring: Ring) -> None:
        """Pass over, and count, what has left the buffer."""
        if ring.tail > self.at:
            self.skipped += ring.tail - self.at
            self.at = ring.tail

    def moved(self, ring: Ring, slots: np.ndarray, at: int) -> None:
        """These were taken; go on at this sequence."""
        if len(slots):
            self.watermark_ms = max(self.watermark_ms, int(ring.received_at_ms[slots].max()))
        self.at = at

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        return {"at": self.at, "watermark_ms": self.watermark_ms, "skipped": self.skipped}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the cursor that gave `state` had never stopped."""
        self.at, self.skipped = int(state["at"]), int(state["skipped"])
        self.watermark_ms = int(state["watermark_ms"])
