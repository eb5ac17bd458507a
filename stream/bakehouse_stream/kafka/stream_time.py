"""Stream time: the broker's time before which everything received is in the tables.

Pure. A heartbeat is a record whose acknowledgement gives the broker's time, with the end offsets
read after it: what they cover was received before that time. Once the applied offsets reach
them, stream time is that time less an allowance.
"""

from __future__ import annotations

from collections import deque

from bakehouse_stream.kafka.sources import Offsets

# Two partitions are stamped by two threads: one may show a record a moment after the other's.
ALLOWANCE_MS = 50


def reaches(applied: Offsets, ends: Offsets) -> bool:
    """Whether everything before `ends` has been applied."""
    return all(
        applied.get(topic, {}).get(partition, 0) >= end
        for topic, partitions in ends.items()
        for partition, end in partitions.items()
    )


def events_between(applied: Offsets, ends: Offsets) -> int:
    """How many records lie between what was applied and where the topics end."""
    return sum(
        max(end - applied.get(topic, {}).get(partition, 0), 0)
        for topic, partitions in ends.items()
        for partition, end in partitions.items()
    )


class StreamTime:
    """Follows heartbeats and applied offsets; says the time and whether anything is open."""

    def __init__(self, *, horizon_ms: int) -> None:
        """`horizon_ms`: how long after the last record something can still become due."""
        self._horizon_ms = horizon_ms
        self._heartbeats: deque[tuple[int, Offsets]] = deque(maxlen=10_000)
        self._ends: Offsets | None = None
        self._news_ms: int | None = None  # broker's time at or after the last record
        self._stirred = True  # something came since the last heartbeat
        self.now_ms = 0
        self.version = -1

    def stir(self) -> None:
        """Records have come."""
        self._stirred = True

    def heartbeat(self, broker_ms: int, ends: Offsets) -> None:
        """A heartbeat was acknowledged at `broker_ms`, and these were the ends after it."""
        if self._stirred or ends != self._ends:
            self._news_ms = broker_ms
        self._stirred = False
        self._ends = ends
        self._heartbeats.append((broker_ms, ends))

    def advance(self, applied: Offsets, version: int) -> bool:
        """The tables hold everything before `applied`, at `version` of replay.

        Returns whether stream time moved.
        """
        before = self.now_ms
        while self._heartbeats and reaches(applied, self._heartbeats[0][1]):
            broker_ms, _ = self._heartbeats.popleft()
            self.now_ms = max(self.now_ms, broker_ms - ALLOWANCE_MS)
        if self.now_ms > before:
            self.version = version
        return self.now_ms > before

    @property
    def is_open(self) -> bool:
        """Whether time must go on: something came, or can still become due."""
        if self._stirred or self._news_ms is None:
            return True
        return self.now_ms < self._news_ms + self._horizon_ms
