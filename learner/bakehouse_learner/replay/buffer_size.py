"""Do decisions mature while they are resident, or leave the buffer before?

Where rate × window is more than the buffer, nothing ever matures: no reward is complete, no
evidence comes, and version 0 stays for good.
"""

from __future__ import annotations

import logging
import math
from typing import Any, Literal, NamedTuple

import numpy as np

from bakehouse_learner.replay.ring import Ring
from bakehouse_schemas.application.application import Application, Episodic
from bakehouse_schemas.formatting import duration_words, size, span
from bakehouse_schemas.replay.buffer_size import buffer_needed, bytes_each, waited_for

log = logging.getLogger(__name__)

EVERY_S = 1.0
OLDEST = 20  # one in so many of a full buffer, those that leave next, are looked at
NONE, SOME = 0.99, 0.05  # shares of them that leave open from which none, some mature in time
BETTER = {"none": 0.9, "some": 0.01}  # shares below which it is no longer so: no to and fro
GROWN = 2.0  # times the buffer last named from which a larger one is named again

Level = Literal["enough", "some", "none"]


class Room(NamedTuple):
    """What a full buffer has room for.

    Args:
        leave_open: share of the oldest resident decisions of which something is still awaited:
            they leave as they are. Of episodes, of their last decisions, where that is more.
        per_s: decisions a second, by the broker's clock, that the buffer holds.
        needed: buffer that would do, see `bakehouse_schemas.replay.buffer_size.buffer_needed`.
        needed_bytes: its memory.
    """

    leave_open: float
    per_s: float
    needed: int
    needed_bytes: int

    @property
    def level(self) -> Level:
        """Whether `enough` decisions mature before they leave, or `some` or all (`none`) do not."""
        if self.leave_open >= NONE:
            return "none"
        return "some" if self.leave_open >= SOME else "enough"


def room_in(ring: Ring, application: Application, stream_time_ms: int) -> Room | None:
    """What there is room for; None while the buffer is not full, for nothing leaves it."""
    if ring.head < ring.capacity:
        return None
    oldest = ring.slots(ring.tail, ring.tail + max(ring.capacity // OLDEST, 1))
    newest_ms = int(ring.received_at_ms[ring.newest(1)[0]])
    at_ms = max(stream_time_ms, newest_ms)
    leave_open = float(np.mean(~ring.is_mature(oldest, at_ms)))
    if isinstance(application.problem, Episodic):
        leave_open = max(leave_open, _left_going_on(ring, application.problem, oldest, at_ms))
    held_ms = max(newest_ms - int(ring.received_at_ms[oldest[0]]), 1)
    per_s = 1_000.0 * ring.capacity / held_ms
    needed = buffer_needed(application, per_s)
    return Room(leave_open, per_s, needed, needed * bytes_each(application))


def _left_going_on(ring: Ring, problem: Episodic, slots: np.ndarray, at_ms: int) -> float:
    """Share of the decisions without a successor whose episode is not over yet."""
    last = slots[~ring.has_next[slots]]
    if not len(last):
        return 0.0
    timeout_ms = round(problem.timeout.total_seconds() * 1000)
    over = ring.ended[last] | ring.timed_out[last]
    return float(np.mean(~over & (ring.received_at_ms[last] + timeout_ms > at_ms)))


class RoomWatch:
    """Says in the log that decisions leave too early: when it begins, changes and ends."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._named = {"application": application.name}
        self._level: Level = "enough"
        self._needed = 0  # the buffer last named
        self._looked_s = -math.inf
        self._room: Room | None = None

    def look(self, ring: Ring, stream_time_ms: int, now_s: float) -> None:
        """Look again, once a second by a clock that does not jump."""
        if now_s - self._looked_s < EVERY_S:
            return
        self._looked_s = now_s
        room = self._room = room_in(ring, self._application, stream_time_ms)
        if room is None:
            self._level = "enough"
            return
        before, level = self._level, room.level
        if _WORSE.index(level) < _WORSE.index(before) and room.leave_open > BETTER[before]:
            level = before
        self._level = level
        if level == "enough":
            if before != "enough":
                log.info(
                    "%s: decisions mature before they leave the buffer again",
                    self._application.name,
                    extra=self._named,
                )
        elif level != before or room.needed > GROWN * self._needed:
            self._needed = room.needed
            log.warning(
                "%s: %s of the decisions mature before they leave the buffer: at %.3g a second "
                "it holds %s, and something is awaited for %s. Raise Training(buffer=…) from %d "
                "to at least %d (some %s), or shorten the window",
                self._application.name,
                "none" if level == "none" else f"not more than {1 - room.leave_open:.0%}",
                room.per_s,
                span(ring.capacity / room.per_s),
                duration_words(waited_for(self._application)),
                ring.capacity,
                room.needed,
                size(room.needed_bytes),
                extra=self._named,
            )

    def status(self) -> dict[str, Any] | None:
        """As `status.v1` carries it; None while the buffer is not full."""
        return None if self._room is None else {**self._room._asdict(), "level": self._level}


_WORSE: tuple[Level, ...] = ("enough", "some", "none")
