"""Gives rows whose decision_id is no UUIDv7 their hour: all rows of one id lie in one partition.

A UUIDv7 says its hour itself. Of any other id it is the hour in which the first event that names
it arrived, by the broker's clock; whatever comes later (an outcome, a retry, a successor) joins it
there, so that the join's rows, repair, the account, compaction and explanations look at one
partition and find everything.

What is remembered is a cache of the tables and never more: at a start it is read from its files
and from the tables' logs since, or, where either is gone, from the tables. So a kill between two
commits, lost files, or a batch that is repeated lead to the same hours.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.ids import UUID7_PATTERN
from bakehouse_schemas.replay.buffer_size import waited_for
from bakehouse_stream.tables.id_hours import SLACK_H, UNKNOWN, IdHours, Run, digests
from bakehouse_stream.tables.tables import DataFile, LogGone, Table

Key = tuple[str, str]  # application, decision_id
Row = dict[str, Any]
OUTPUTS = ("replay", "outcome")  # of the decoder: those whose rows have an hour
ID_COLUMNS = ["application", "hour", "decision_id"]
US_PER_HOUR = 3_600_000_000
HOURS_A_DAY = 24
SAVE_EVERY_S = 60.0
SAVE_SHARE = 0.005  # of the time, at most
MANIFEST, RUN = "manifest.json", ".ids"

log = logging.getLogger("bakehouse_stream.tables.text_ids")


def remembered(applications: Iterable[Application], *, retention_days: float) -> timedelta:
    """How long an id is remembered: as long as anything can be awaited of it, and another day, in
    which an orphan may still find its decision; no longer than the tables keep an hour."""
    longest = max((waited_for(one) for one in applications), default=timedelta(0))
    return min(longest + timedelta(days=1), timedelta(days=retention_days))


class TextIds:
    """The hours of ids that are no UUIDv7. Any thread may call: whoever appends rows asks here.

    Args:
        memory: a folder for what is remembered; made where there is none.
        span: how long an id is remembered; see `remembered`.
        clock: monotonic, in seconds.
    """

    def __init__(
        self, memory: Path, *, span: timedelta, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._memory = memory
        self._clock = clock
        self._span_h = max(1, math.floor(span / timedelta(hours=1)))
        self._lock = threading.Lock()
        self._hours: IdHours | None = None
        self._saved: dict[str, int] = {}  # runs that have a file, and its crc32
        self._save_at_s = clock()

    def __len__(self) -> int:
        """How many are remembered."""
        return 0 if self._hours is None else len(self._hours)

    def load(self, tables: Mapping[str, Table]) -> None:
        """Remember what the tables hold; nothing is done where that is so already.

        Args:
            tables: `replay` and `outcome`.
        """
        with self._lock:
            self._load(tables)

    def _load(self, tables: Mapping[str, Table]) -> None:
        if self._hours is not None:
            return
        kept = self._read_manifest()
        hours, news = self._since(kept, tables) if kept else (None, {})
        if hours is None:
            hours = IdHours(self._span_h)
            news = {name: self._recent(tables[name].files()) for name in OUTPUTS}
        for name, files in news.items():
            for file in files:
                hours.add(*_text_ids_of(tables[name].read([file], ID_COLUMNS)))
        self._hours = hours
        self._save(tables)

    def placed(self, found: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
        """Rows of a batch, each with its hour.

        Args:
            found: rows of `replay`, `outcome` and others; the hour of text ids is null.
        """
        lacking = {
            name: rows
            for name in OUTPUTS
            if (rows := found[name]).num_rows and rows.column("hour").null_count
        }
        if not lacking:
            return dict(found)
        hour_of = self._hours_of(one for rows in lacking.values() for one in _arrivals(rows))
        return dict(found) | {name: _filled(rows, hour_of) for name, rows in lacking.items()}

    def place(self, rows: Sequence[Row]) -> None:
        """Give rows of `replay` and of the ledger their hour, where it is None."""
        lacking = [row for row in rows if row["hour"] is None]
        if not lacking:
            return
        hour_of = self._hours_of((_key(row), row["received_at"] // US_PER_HOUR) for row in lacking)
        for row in lacking:
            row["hour"] = hour_of[_key(row)]

    def _hours_of(self, arrivals: Iterable[tuple[Key, int]]) -> dict[Key, int]:
        """The hour of each id; one that is not known is from here on, in the earliest of these."""
        arrived: dict[Key, int] = {}
        for key, hour in arrivals:
            if hour < arrived.get(key, hour + 1):
                arrived[key] = hour
        marks, came = digests(arrived), np.fromiter(arrived.values(), np.int32)
        with self._lock:
            assert self._hours is not None
            hours = self._hours.find(marks, came)
            new = hours == UNKNOWN
            hours[new] = came[new]
            self._hours.add(marks[new], hours[new])
        return dict(zip(arrived, hours.tolist(), strict=True))

    def note(self, tables: Mapping[str, Table]) -> None:
        """A batch is in the tables: write what is remembered, where it is time to."""
        if self._clock() >= self._save_at_s:
            with self._lock:
                self._save(tables)

    def _recent(self, files: list[DataFile]) -> list[DataFile]:
        """Files that can hold an id that is still remembered."""
        newest = max((file.partition["hour"] for file in files), default=0)
        # a UUIDv7 may be a day ahead of the broker's clock
        oldest = newest - HOURS_A_DAY - self._span_h - SLACK_H
        return [file for file in files if file.partition["hour"] >= oldest]

    def _since(
        self, kept: Mapping[str, Any], tables: Mapping[str, Table]
    ) -> tuple[IdHours | None, dict[str, list[DataFile]]]:
        """What the files remember, and the tables' files since; None where they do not reach."""
        if kept["span_h"] < self._span_h:
            return None, {}
        news = {}
        for name in OUTPUTS:
            table, then = tables[name], kept["tables"][name]
            if then["id"] != table_id(table) or then["version"] > table.delta.version():
                return None, {}
            try:
                _, news[name] = table.added_since(then["version"])
            except LogGone:
                return None, {}
        runs = []
        for one in kept["runs"]:
            run = _read_run(self._memory, one["name"], one["crc32"])
            if run is None:
                log.warning("%s is torn; the tables are read instead", one["name"])
                return None, {}
            self._saved[run.name] = one["crc32"]
            runs.append(run)
        return IdHours(self._span_h, runs), news

    def _read_manifest(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self._memory / MANIFEST).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return found

    def _save(self, tables: Mapping[str, Table]) -> None:
        """Runs that are not there yet, then the manifest, which alone says what counts."""
        assert self._hours is not None
        began_s = self._clock()
        self._memory.mkdir(parents=True, exist_ok=True)
        saved = {}
        for run in self._hours.runs:
            if run.name not in self._saved:
                data = run.digests.tobytes() + run.hours.tobytes()
                (self._memory / f"{run.name}{RUN}").write_bytes(data)
                self._saved[run.name] = zlib.crc32(data)
            saved[run.name] = self._saved[run.name]
        manifest = {
            "span_h": self._span_h,
            "tables": {
                name: {"id": table_id(tables[name]), "version": tables[name].version}
                for name in OUTPUTS
            },
            "runs": [{"name": name, "crc32": crc32} for name, crc32 in saved.items()],
        }
        aside = self._memory / f"{MANIFEST}.aside"
        aside.write_text(json.dumps(manifest))
        aside.replace(self._memory / MANIFEST)
        self._saved = saved
        for file in self._memory.glob(f"*{RUN}"):
            if file.stem not in saved:
                file.unlink()
        took_s = self._clock() - began_s
        self._save_at_s = self._clock() + max(SAVE_EVERY_S, took_s / SAVE_SHARE)


def text_ids_of(
    home: Path, applications: Iterable[Application], *, retention_days: float
) -> TextIds:
    """Those of a home; see `remembered`."""
    span = remembered(applications, retention_days=retention_days)
    return TextIds(home.resolve() / "stream" / "text_ids", span=span)


def table_id(table: Table) -> str:
    """Which table it is: one that was made anew at the same place is another."""
    return str(table.delta.metadata().id)


def _text_ids_of(rows: pa.Table) -> tuple[Any, Any]:
    """Digests and hours of rows of a table whose id is no UUIDv7."""
    own = pc.match_substring_regex(rows.column("decision_id"), f"^{UUID7_PATTERN}$")
    rows = rows.filter(pc.invert(own))
    names = zip(
        rows.column("application").to_pylist(), rows.column("decision_id").to_pylist(), strict=True
    )
    return digests(names), rows.column("hour").to_numpy().astype(np.int32)


def _key(row: Row) -> Key:
    return row["application"], row["decision_id"]


def _arrivals(rows: pa.Table) -> Iterable[tuple[Key, int]]:
    """`(application, decision_id)`, and when it arrived, of rows without an hour."""
    rows = rows.filter(pc.is_null(rows.column("hour")))
    columns = (rows.column(name).to_pylist() for name in ("application", "decision_id"))
    received = rows.column("received_at").cast(pa.int64()).to_numpy()
    return zip(zip(*columns, strict=True), (received // US_PER_HOUR).tolist(), strict=True)


def _filled(rows: pa.Table, hour_of: Mapping[Key, int]) -> pa.Table:
    columns = [rows.column(name).to_pylist() for name in ID_COLUMNS]
    hours = [
        hour_of[application, decision_id] if hour is None else hour
        for application, hour, decision_id in zip(*columns, strict=True)
    ]
    at = rows.schema.get_field_index("hour")
    return rows.set_column(at, "hour", pa.array(hours, pa.int64()))


def _read_run(folder: Path, name: str, crc32: int) -> Run | None:
    try:
        data = (folder / f"{name}{RUN}").read_bytes()
    except FileNotFoundError:
        return None
    if zlib.crc32(data) != crc32:
        return None
    size = len(data) // 12
    found = np.frombuffer(data, np.uint64, size)
    return Run(name, found, np.frombuffer(data, np.int32, size, offset=8 * size))
