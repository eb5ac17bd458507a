"""Retention: the log and removed files are cleaned continuously, old hours deleted.

Without it a day of half-second batches leaves 144 thousand commits in `_delta_log`, and appends
slow down twentyfold.

Hours grow old by stream time, and go one by one: whatever a clock says, its owner has as many
hours to notice as there are hours to lose.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from bakehouse_stream.tables.tables import DataFile, Table

CHECKPOINT_EVERY = 100  # commits
MS_PER_HOUR = 3_600_000
S_PER_HOUR = 3_600.0
LATE_S = 600.0  # a step that comes less late than this does not move those that follow
JUMP_S = 60.0  # two clocks that part by so much between two steps: one of them was set

log = logging.getLogger("bakehouse_stream.upkeep.maintenance")


def outlived(files: list[DataFile], *, now_ms: int, days: float) -> list[DataFile]:
    """Files of hours that ended more than `days` before now."""
    oldest = (now_ms - days * 24 * MS_PER_HOUR) / MS_PER_HOUR - 1
    return [file for file in files if file.partition["hour"] < oldest]


def oldest_hour(files: list[DataFile]) -> list[DataFile]:
    """Those of the oldest hour, of every application."""
    hour = min((file.partition["hour"] for file in files), default=None)
    return [file for file in files if file.partition["hour"] == hour]


class Pace:
    """Lets an hour of the tables be deleted once an hour, by two clocks: both must have moved.

    Stream time comes from the broker's clock, which can be wrong; the monotonic clock knows only
    of this process. When the last hour was deleted is kept, so that one that starts again and
    again deletes no faster.

    Args:
        memory: a file; made where there is none.
        clock: monotonic, in seconds.
    """

    def __init__(self, memory: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory = memory
        self._clock = clock
        self._next_s = clock()
        self._next_ms = 0  # stream time
        if memory.is_file():
            try:
                self._next_ms = int(json.loads(memory.read_text())["next_ms"])
            except (ValueError, KeyError, TypeError):
                log.warning("%s is torn: the next hour is deleted in an hour", memory)
                self._next_s += S_PER_HOUR

    def allows(self, stream_time_ms: int) -> bool:
        """Whether an hour may be deleted now; never while stream time is not known (0)."""
        if stream_time_ms <= 0:
            return False
        # a clock that was far ahead and was set right must not stop retention until it is there
        self._next_ms = min(self._next_ms, stream_time_ms + MS_PER_HOUR)
        return self._clock() >= self._next_s and stream_time_ms >= self._next_ms

    def note(self, stream_time_ms: int) -> None:
        """An hour is about to be deleted."""
        now_s = self._clock()
        # a little late is on time, else the tables would grow by what steps are late
        on_time_s = self._next_s if now_s - self._next_s < LATE_S else now_s
        behind_ms = stream_time_ms - self._next_ms
        on_time_ms = self._next_ms if behind_ms < LATE_S * 1000 else stream_time_ms
        self._next_s, self._next_ms = on_time_s + S_PER_HOUR, on_time_ms + MS_PER_HOUR
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        aside = self._memory.with_suffix(".aside")
        aside.write_text(json.dumps({"next_ms": self._next_ms}))
        aside.replace(self._memory)


class Cleaner:
    """Keeps one table's log short.

    Delta measures the age of removed files and of the log by the machine's clock. Where that was
    set while this process ran, nothing is cleaned until what it removed before is surely old.

    Args:
        clock: monotonic, in seconds.
        wall: seconds since 1970, UTC.
    """

    def __init__(
        self,
        table: Table,
        *,
        removed_files_retention_hours: int,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._removed_files_retention_hours = removed_files_retention_hours
        self._clock = clock
        self._wall = wall
        self._apart_s = wall() - clock()
        self._not_before_s = clock()
        self._checkpointed = -1

    def step(self) -> None:
        """Sum up and clean once enough commits have come since the last time."""
        self._watch_the_clock()
        version = int(self._table.delta.version())
        if version < self._checkpointed + CHECKPOINT_EVERY or self._clock() < self._not_before_s:
            return
        self._table.clean(removed_files_retention_hours=self._removed_files_retention_hours)
        self._checkpointed = version

    def _watch_the_clock(self) -> None:
        apart_s = self._wall() - self._clock()
        moved_s, self._apart_s = apart_s - self._apart_s, apart_s
        if abs(moved_s) > JUMP_S:
            self._not_before_s = self._clock() + S_PER_HOUR * self._removed_files_retention_hours
            log.warning(
                "the machine's clock was set by %.0f s: what was removed from %s, and its log, are "
                "kept for another %d h",
                moved_s,
                self._table.name,
                self._removed_files_retention_hours,
            )
