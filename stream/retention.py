"""Retention: the log and removed files are cleaned continuously, old hours deleted.

Without it a day of half-second batches leaves 144 thousand commits in `_delta_log`, and appends
slow down twentyfold.
"""

from __future__ import annotations

from stream.tables import DataFile, Table

CHECKPOINT_EVERY = 100  # commits
MS_PER_HOUR = 3_600_000


def outlived(files: list[DataFile], *, now_ms: int, days: float) -> list[DataFile]:
    """Files of hours that ended more than `days` before now."""
    oldest = (now_ms - days * 24 * MS_PER_HOUR) / MS_PER_HOUR - 1
    return [file for file in files if file.partition["hour"] < oldest]


class Cleaner:
    """Keeps one table's log short."""

    def __init__(self, table: Table, *, removed_files_retention_hours: int) -> None:
        self._table = table
        self._removed_files_retention_hours = removed_files_retention_hours
        self._checkpointed = -1

    def step(self) -> None:
        """Sum up and clean once enough commits have come since the last time."""
        version = int(self._table.delta.version())
        if version < self._checkpointed + CHECKPOINT_EVERY:
            return
        self._table.clean(removed_files_retention_hours=self._removed_files_retention_hours)
        self._checkpointed = version
