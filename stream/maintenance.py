"""Everything that keeps the tables whole and small, one thing at a time, beside the query.

One thread. Each task waits, after it has run, for a multiple of the time that it took: together
they take a bounded share of the machine, whatever the tables have grown to.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from schemas.application import Application
from schemas.settings import Settings
from stream.books import Books, by_place
from stream.compaction import compact, due
from stream.query import ReplayQuery
from stream.repair import Repair
from stream.retention import Cleaner, outlived
from stream.tables import open_table

REST = 20  # a task rests this many times as long as it ran: a twentieth of the time, at most
ACCOUNT_EVERY_S = 10.0
CLEAN_EVERY_S = 60.0
IDLE_S = 60.0  # how often to look when nothing has come

log = logging.getLogger("stream.maintenance")


@dataclass
class Task:
    """Something to do again and again; `due_s` is on the monotonic clock."""

    name: str
    run: Callable[[], None]
    every_s: float
    due_s: float = 0.0


class Maintenance:
    """Repair, accounting, compaction and retention of one home."""

    def __init__(
        self,
        spark: SparkSession,
        settings: Settings,
        query: ReplayQuery,
        applications: Mapping[str, Application],
    ) -> None:
        self._spark = spark
        self._settings = settings
        self._query = query
        self._applications = applications
        self._replay = open_table(settings, "replay")
        self._ledger = open_table(settings, "outcomes")
        self._repair = Repair(
            spark,
            self._ledger,
            self._replay,
            settings.home.resolve() / "stream" / "repair.json",
        )
        self._books = Books(settings, settings.home)
        self._cleaners = [
            Cleaner(open_table(settings, name), retention_minutes=settings.log_retention_minutes)
            for name in ("replay", "outcomes", "quarantine")
        ]
        self._compacted = 0
        self._stop = threading.Event()
        self._tasks = [
            Task("repair", self._step_repair, settings.repair_every_s),
            Task("account", self._settle, ACCOUNT_EVERY_S),
            Task("compaction", self._step_compaction, CLEAN_EVERY_S),
            Task("retention", self._step_retention, CLEAN_EVERY_S),
        ]
        self._thread = threading.Thread(target=self._work, name="maintenance", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Let the task that is under way finish, and end."""
        self._stop.set()
        self._thread.join()

    def finish(self) -> None:
        """After the query has stopped: repair once more and write the final account."""
        self._step_repair()
        self._settle()
        offsets, _ = self._query.applied
        file = self._settings.home.resolve() / "stream" / "account.json"
        aside = file.with_suffix(".aside")
        aside.write_text(json.dumps(self._books.result | {"at": offsets}))
        aside.replace(file)
        log.info("final account: %s", self._books.result)

    def status(self) -> dict[str, Any]:
        """For `status.v1`."""
        return {
            "account": self._books.result,
            "waiting_outcomes": self._repair.waiting,
            "repaired": self._repair.repaired,
            "compacted": self._compacted,
        }

    def _work(self) -> None:
        seen = -1
        while not self._stop.is_set():
            batches = self._query.counts.batches
            now = time.monotonic()
            for task in self._tasks:
                if task.due_s > now or self._stop.is_set():
                    continue
                started = time.monotonic()
                try:
                    task.run()
                except Exception:
                    # the tables are as they were: each task commits all or nothing
                    log.exception("%s failed; trying again later", task.name)
                took = time.monotonic() - started
                task.due_s = time.monotonic() + max(task.every_s, REST * took)
            idle = batches == seen
            seen = batches
            next_due = min(task.due_s for task in self._tasks) - time.monotonic()
            self._stop.wait(timeout=max(next_due, IDLE_S if idle else 0.1))

    def _step_repair(self) -> None:
        self._repair.step()

    def _settle(self) -> None:
        offsets, _ = self._query.applied
        self._books.settle(until=offsets, stream_time_ms=time.time_ns() // 1_000_000)

    def _step_compaction(self) -> None:
        quiet_ms = int(self._settings.compact_after_minutes * 60_000)
        for table in (self._replay, self._ledger):
            now_ms = time.time_ns() // 1_000_000
            for place, files in due(table.files(), now_ms=now_ms, quiet_ms=quiet_ms).items():
                compact(self._spark, table, place, files, now_ms=now_ms)
                self._compacted += 1
                return  # one a step: the next rests in proportion to what this one took

    def _step_retention(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        days = self._settings.replay_retention_days
        old = {
            t: outlived(t.files(), now_ms=now_ms, days=days) for t in (self._replay, self._ledger)
        }
        if any(old.values()):
            places = {place for files in old.values() for place in by_place(files)}
            offsets, _ = self._query.applied
            self._books.close_places(places, until=offsets, stream_time_ms=now_ms)
            for table, files in old.items():
                if files:
                    table.drop(files, now_ms=now_ms)
        for cleaner in self._cleaners:
            cleaner.step()
