"""Append time and learner lag when the replay table has 10, 1,000 and 100,000 commits.

A table of 100,000 commits has lived for fourteen hours of half-second batches. That life is
replayed quickly: commits are written straight into the log, dated back, and every simulated minute
stream's own housekeeping has its turn (log checkpoint, log cleaning, vacuum, compaction; only the
folding of the rows is left out, a compacted file is a stand-in). The three tables then take
turns: stream appends a batch, and the learner's tail, decoder and ring take it in.

    append_s           seconds of an append, by commits, median
    lag_s              seconds from the commit to its rows in the learner's ring, by commits, median
    append_ratio       append_s at most commits / at fewest; at most 1.5
    lag_ratio          the same of lag_s; at most 1.5
    open_s             seconds to open the table, by commits (a restart)
    log_files          files in `_delta_log`, by commits
    active_files       data files that make up the table, by commits
    files_on_disk      data files that lie there, removed ones not yet deleted included
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from bakehouse_learner.replay.arrow_columns import COLUMNS
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.replay.row_decoder import RowDecoder
from bakehouse_learner.replay.tail import Tail
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.settings import Settings
from bakehouse_stream.kafka.decode import Decoder, Record
from bakehouse_stream.tables.tables import DataFile, Table, create_tables, open_table
from bakehouse_stream.upkeep.compaction import due
from bakehouse_stream.upkeep.retention import Cleaner
from tests.bench.events import decision_event
from tests.bench.game import application
from tests.bench.measure import Options, alternate, median

COMMITS = (10, 1_000, 100_000)
BATCH_S = 0.5  # between commits
STEP_S = 60.0  # between turns of housekeeping, in the hours of which the log still knows
LONG_AGO_STEP_S = 600.0  # and before
REMEMBERED_S = 5_400.0
MS_PER_HOUR = 3_600_000
ROWS = 250  # of an appended batch
LINKS_A_FILE = 50_000  # file systems have a bound of 65 thousand
TOPIC = "bench.decisions.v1"


class Turn(NamedTuple):
    """One append, and its way into the ring; seconds."""

    append_s: float
    lag_s: float


def run(options: Options) -> dict[str, Any]:
    """Measure; see the module."""
    ages = options.sized(COMMITS, (10, 100, 2_000))
    turns = options.sized(60, 5)
    lives = {}
    for commits in ages:
        began = time.perf_counter()
        lives[str(commits)] = Life(options.scratch / str(commits), commits)
        options.say(f"{commits} commits lived in {time.perf_counter() - began:.0f} s")
    for _ in range(5):  # warm
        for life in lives.values():
            life.turn()
    found = alternate(
        turns, {name: life.turn for name, life in lives.items()}, after=lambda what, turn: None
    )
    append_s = {name: median(turn.append_s for turn in of) for name, of in found.items()}
    lag_s = {name: median(turn.lag_s for turn in of) for name, of in found.items()}
    youngest, oldest = str(ages[0]), str(ages[-1])
    return {
        "append_s": append_s,
        "lag_s": lag_s,
        "append_ratio": append_s[oldest] / append_s[youngest],
        "lag_ratio": lag_s[oldest] / lag_s[youngest],
        "max_append_s": {name: max(t.append_s for t in of) for name, of in found.items()},
        "max_lag_s": {name: max(t.lag_s for t in of) for name, of in found.items()},
        "open_s": {name: life.open_s for name, life in lives.items()},
        "log_files": {name: life.log_files for name, life in lives.items()},
        "active_files": {name: life.active_files for name, life in lives.items()},
        "files_on_disk": {name: life.files_on_disk for name, life in lives.items()},
        "rows_a_batch": ROWS,
    }


class Life:
    """A replay table that has had so many commits, with stream's handle and the learner's."""

    def __init__(self, folder: Path, commits: int) -> None:
        settings = Settings(home=folder)
        create_tables(settings, first_offsets={})
        self._root = Path(settings.tables) / "replay"
        self._rows = Rows()
        self._sample = folder / "sample.parquet"
        pq.write_table(self._rows.batch().drop_columns(["application", "hour"]), self._sample)
        self._linked = 0
        self._inode = self._sample
        self._live(open_table(settings, "replay"), commits, settings)
        self.log_files = len(list((self._root / "_delta_log").iterdir()))
        began = time.perf_counter()
        self._table = open_table(settings, "replay")
        self.open_s = time.perf_counter() - began
        self.active_files = len(self._table.files())
        self.files_on_disk = sum(1 for _ in self._root.glob("application=*/**/*.parquet"))
        self._tail = Tail(str(self._root), application.name, self._table.version)
        self._decoder = RowDecoder(application)
        self._ring = Ring(application)

    def turn(self) -> Turn:
        """Append a batch and take it in."""
        rows = self._rows.batch()
        began = time.perf_counter()
        self._table.append(rows)
        appended = time.perf_counter()
        taken = 0
        for commit in self._tail.poll():
            for added in commit.added:
                arrivals = self._decoder.decode(self._tail.read(added, COLUMNS))
                taken += self._ring.ingest(arrivals)
        done = time.perf_counter()
        if taken != ROWS:
            raise RuntimeError(f"{taken} rows came into the ring, expected {ROWS}")
        return Turn(appended - began, done - appended)

    def _live(self, table: Table, commits: int, settings: Settings) -> None:
        """Age the table by so many commits, ending now."""
        cleaner = Cleaner(
            table, removed_files_retention_hours=settings.removed_files_retention_hours
        )
        quiet_ms = int(settings.compact_after_minutes * 60_000)
        born_ms = time.time_ns() // 1_000_000 - round(commits * BATCH_S * 1000)
        log = self._root / "_delta_log"
        backdate(log / f"{0:020d}.json", born_ms)
        made = 0
        while made < commits:
            left_s = (commits - made) * BATCH_S
            step_s = STEP_S if left_s <= REMEMBERED_S else LONG_AGO_STEP_S
            version = table.version
            for number in range(min(round(step_s / BATCH_S), commits - made)):
                at_ms = born_ms + round(made * BATCH_S * 1000)
                self._commit(log, version + 1 + number, at_ms)
                made += 1
            now_ms = born_ms + round(made * BATCH_S * 1000)
            for place, files in list(due(table.files(), now_ms=now_ms, quiet_ms=quiet_ms).items())[
                :1
            ]:
                version = table.replace(files, [self._folded(place, files, now_ms)], now_ms=now_ms)
                backdate(log / f"{version:020d}.json", now_ms)
            cleaner.step()
            # vacuum commits too, and the log is cleaned as far back as an old checkpoint reaches
            for number in range(version + 1, table.version + 1):
                if (entry := log / f"{number:020d}.json").exists():  # not cleaned away already
                    backdate(entry, now_ms)
            checkpoint = log / f"{table.version:020d}.checkpoint.parquet"
            if checkpoint.exists():
                backdate(checkpoint, now_ms)

    def _commit(self, log: Path, version: int, at_ms: int) -> None:
        """One append as stream writes it, dated back."""
        hour = at_ms // MS_PER_HOUR
        path = self._link(application.name, hour)
        low, high = uuid7(at_ms), uuid7(at_ms)
        add = {
            "path": path,
            "partitionValues": {"application": application.name, "hour": str(hour)},
            "size": self._sample.stat().st_size,
            "modificationTime": at_ms,
            "dataChange": True,
            "stats": json.dumps(
                {
                    "numRecords": ROWS,
                    "minValues": {"decision_id": min(low, high)},
                    "maxValues": {"decision_id": max(low, high)},
                    "nullCount": {"decision_id": 0},
                }
            ),
        }
        info = {"timestamp": at_ms, "operation": "WRITE", "operationParameters": {"mode": "Append"}}
        file = log / f"{version:020d}.json"
        file.write_bytes(orjson.dumps({"commitInfo": info}) + b"\n" + orjson.dumps({"add": add}))
        backdate(file, at_ms)

    def _folded(self, place: tuple[str, int], files: list[DataFile], now_ms: int) -> DataFile:
        """What stands for the fold of these files."""
        return DataFile(
            path=self._link(*place),
            size=self._sample.stat().st_size * len(files),
            rows=ROWS * len(files),
            modified_ms=now_ms,
            partition={"application": place[0], "hour": place[1]},
            low=min(str(file.low) for file in files),
            high=max(str(file.high) for file in files),
        )

    def _link(self, name: str, hour: int) -> str:
        """A data file: the sample under another name."""
        if self._linked % LINKS_A_FILE == 0:
            self._inode = self._sample.with_name(f"sample-{self._linked}.parquet")
            shutil.copyfile(self._sample, self._inode)
        self._linked += 1
        path = f"application={name}/hour={hour}/part-{self._linked:07d}.parquet"
        (self._root / path).parent.mkdir(parents=True, exist_ok=True)
        (self._root / path).hardlink_to(self._inode)
        return path


def backdate(file: Path, at_ms: int) -> None:
    """Make a file as old as what it stands for."""
    os.utime(file, (at_ms / 1000, at_ms / 1000))


class Rows:
    """Batches of decisions as stream appends them, all different."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._decoder = Decoder({application.name: application}, TOPIC)
        self._offset = 0

    def batch(self) -> pa.Table:
        """ROWS rows of `replay`."""
        from bakehouse_stream.columns import arrow_schema
        from bakehouse_stream.kafka.decode import decision_row

        now_ms = time.time_ns() // 1_000_000
        rows = []
        for _ in range(ROWS):
            self._offset += 1
            decision_id = uuid7(now_ms)
            value = orjson.dumps(decision_event(decision_id, self._rng, now_ms=now_ms))
            record = Record(TOPIC, 0, self._offset, now_ms, decision_id.encode(), value)
            rows.append(decision_row(self._decoder.decision(record), record))
        return pa.Table.from_pylist(rows, schema=arrow_schema("replay"))
