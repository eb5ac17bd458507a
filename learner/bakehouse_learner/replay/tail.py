"""Follows a Delta table by reading its log in sequence: what was added, in order, once.

Opening the next commit's file is all it takes to see whether there is news. Compaction commits
with `dataChange=false` and says nothing new. A commit that is missing while a later one exists
has been cleaned away: the reader then rebuilds from the table's fold.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from bakehouse_schemas.errors import BakehouseError

_COMMIT = re.compile(r"\d{20}\.json")


class Added(NamedTuple):
    """A data file of the table."""

    path: str  # relative to the table
    hour: int


class Commit(NamedTuple):
    """One version of the table, and what it added for one application."""

    version: int
    added: list[Added]


class LogGap(BakehouseError):
    """The next version is not in the log, and later ones are."""


class Tail:
    """Reads the log of one table for one application.

    Args:
        table: the table's folder or object-store address; it need not exist yet.
        version: the last version that has been read; −1: none.
    """

    def __init__(self, table: str, application: str, version: int = -1) -> None:
        self._files, self._table = open_filesystem(table)
        self._log = f"{self._table}/_delta_log"
        self._application = application
        self.version = version
        self._unseen = 0  # looks that found nothing, since the last that found something

    def poll(self, *, up_to: int | None = None, most: int = 200) -> list[Commit]:
        """Versions that have appeared since, in order, at most `most`.

        Raises:
            LogGap: see the module's docstring; `version` is unchanged by the gap.
        """
        commits: list[Commit] = []
        while len(commits) < most and (up_to is None or self.version < up_to):
            text = self._read(self.version + 1)
            if text is None:
                break
            self.version += 1
            commits.append(Commit(self.version, self._added(text)))
        if not commits and (up_to is None or self.version < up_to):
            self._unseen += 1
            # listing the folder costs more than one look, so it is done now and then
            if up_to is not None or self._unseen % 64 == 1:
                self._look_for_gap()
        else:
            self._unseen = 0
        return commits

    def read(self, added: Added, columns: list[str]) -> pa.Table:
        """Rows of one data file; a column that it does not have, of an earlier release, is null."""
        with self._files.open_input_file(f"{self._table}/{added.path}") as file:
            rows = pq.ParquetFile(file).read(columns=columns)
        for name in columns:
            if name not in rows.schema.names:
                rows = rows.append_column(name, pa.nulls(rows.num_rows))
        return rows

    def _read(self, version: int) -> str | None:
        try:
            with self._files.open_input_stream(f"{self._log}/{version:020d}.json") as file:
                text = file.read().decode()
        except FileNotFoundError:
            return None
        # a writer without rename can be seen half-way: commits end with a whole line
        return text if _whole(text) else None

    def _added(self, text: str) -> list[Added]:
        added = []
        for line in text.split("\n"):  # JSON may hold what else ends a line
            add = json.loads(line).get("add") if '"add"' in line else None
            if add is None or not add.get("dataChange", True):
                continue
            values = add["partitionValues"]
            if values.get("application") == self._application:
                added.append(Added(unquote(add["path"]), int(values["hour"])))
        return added

    def _look_for_gap(self) -> None:
        wanted = f"{self.version + 1:020d}.json"
        folder = fs.FileSelector(self._log, allow_not_found=True)
        names = [entry.base_name for entry in self._files.get_file_info(folder)]
        later = [name for name in names if _COMMIT.fullmatch(name) and name > wanted]
        if later and wanted not in names:
            raise LogGap(
                f"version {self.version + 1} of {self._table} has been cleaned away, and "
                f"{min(later)} is there"
            )


def _whole(text: str) -> bool:
    last = text.rstrip("\n").rpartition("\n")[2]
    try:
        json.loads(last)
    except ValueError:
        return False
    return True


def open_filesystem(address: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or address, and the path on it."""
    if "://" in address:
        found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(address)
        return found
    return fs.LocalFileSystem(), str(Path(address).resolve())
