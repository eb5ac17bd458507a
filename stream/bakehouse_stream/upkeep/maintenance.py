"""Everything that keeps the tables whole and small, one thing at a time, beside the query.

One thread. Each task waits, after it has run, for a multiple of the time that it took: together
they take a bounded share of the machine, whatever the tables have grown to.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from bakehouse_schemas.process.settings import Settings
from bakehouse_stream.queries.query import ReplayQuery
from bakehouse_stream.tables.running_account import RunningAccount, by_partition
from bakehouse_stream.tables.tables import open_table
from bakehouse_stream.upkeep.compaction import compact, due
from bakehouse_stream.upkeep.quarantined import Wish
from bakehouse_stream.upkeep.repair import Repair
from bakehouse_stream.upkeep.requeue import Requeue
from bakehouse_stream.upkeep.retention import Cleaner, Pace, oldest_hour, outlived

log = logging.getLogger("bakehouse_stream.upkeep.maintenance")


@dataclass
class Task:
    """Something to do again and again; `due_s` is on the monotonic clock."""

    name: str
    run: Callable[[], None]
    every_s: float
    by_time: bool = False  # has work also when nothing has come: things grow old
    due_s: float = 0.0
    seen: int = 0  # batches that had come when it last ran

    def has_work(self, batches: int) -> bool:
        """Whether anything can have changed since it last ran."""
        return self.by_time or batches != self.seen

    def is_due(self, now_s: float, batches: int) -> bool:
        """Whether to run now."""
        return self.has_work(batches) and self.due_s <= now_s


class Maintenance:
    """Requeue, repair, accounting, compaction and retention of one home.

    Args:
        requeue: reads quarantine again; None: nobody does.
        on_news: called when something was done that somebody has asked for.
        stream_time_ms: the broker's time before which everything is in the tables; 0 while it is
            not known. What is kept or forgotten for good goes by it, never by this machine's clock.
    """

    def __init__(
        self,
        spark: SparkSession,
        settings: Settings,
        query: ReplayQuery,
        *,
        requeue: Requeue | None = None,
        stream_time_ms: Callable[[], int] = lambda: 0,
        on_news: Callable[[], None] = lambda: None,
    ) -> None:
        self._requeue = requeue
        self._wishes: deque[Wish] = deque()
        self._on_news = on_news
        self._stream_time_ms = stream_time_ms
        self._spark = spark
        self._settings = settings
        self._query = query
        self._replay = open_table(settings, "replay")
        self._ledger = open_table(settings, "outcomes")
        self._repair = Repair(
            spark,
            self._ledger,
            self._replay,
            settings.home.resolve() / "stream" / "repair.json",
        )
        self._account = RunningAccount(settings, settings.home)
        self._pace = Pace(settings.home.resolve() / "stream" / "retention.json")
        self._cleaners = [
            Cleaner(
                open_table(settings, name),
                removed_files_retention_hours=settings.removed_files_retention_hours,
            )
            for name in ("replay", "outcomes", "quarantine")
        ]
        self._compacted = 0
        self._compaction_turns = [self._replay, self._ledger]
        self._stopping = False
        self._wake = threading.Event()
        self._bridging = False
        self._bridged = threading.Event()
        self._tasks = [
            Task("requeue", self._step_requeue, settings.upkeep_every_s, by_time=True),
            Task("repair", self._step_repair, settings.repair_every_s),
            Task("account", self._settle, settings.account_every_s),
            Task("compaction", self._step_compaction, settings.upkeep_every_s, by_time=True),
            Task("retention", self._step_retention, settings.upkeep_every_s, by_time=True),
        ]
        self._thread = threading.Thread(target=self._work, name="maintenance", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Let the task that is under way finish, and end."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def finish(self) -> None:
        """After the query has stopped: repair once more and write the final account."""
        self._step_repair()
        self._settle()
        offsets, _ = self._query.applied
        file = self._settings.home.resolve() / "stream" / "account.json"
        aside = file.with_suffix(".aside")
        at = {"at": offsets, "stream_time_ms": self._stream_time_ms()}
        aside.write_text(json.dumps(self._account.result | at))
        aside.replace(file)
        log.info("final account: %s", self._account.result)

    def stir(self) -> None:
        """A batch has come: there may be work before the next look."""
        self._wake.set()

    def begin_bridge(self) -> None:
        """Ask for a repair that begins from now on; `is_bridged` tells when it is done."""
        self._bridged.clear()
        self._bridging = True
        self._hurry("repair")

    def ask(self, wish: Wish) -> None:
        """Ask for quarantine to be read again; `status` tells when it is done."""
        self._wishes.append(wish)
        self._hurry("requeue")

    def _hurry(self, name: str) -> None:
        for task in self._tasks:
            if task.name == name:
                task.due_s, task.seen = 0.0, -1
        self._wake.set()

    @property
    def is_bridged(self) -> bool:
        """Whether the repair that was asked for is done."""
        return self._bridged.is_set()

    def status(self) -> dict[str, Any]:
        """For `status.v1`."""
        return {
            "account": self._account.result,
            "waiting_outcomes": self._repair.waiting,
            "repaired": self._repair.repaired,
            "compacted": self._compacted,
            **({"requeue": self._requeue.status} if self._requeue is not None else {}),
        }

    def _work(self) -> None:
        while not self._stopping:
            self._wake.clear()
            batches = self._query.counts.batches
            for task in self._tasks:
                if not self._stopping and task.is_due(time.monotonic(), batches):
                    self._run(task, batches)
            now = time.monotonic()
            waits = [t.due_s - now for t in self._tasks if t.has_work(self._query.counts.batches)]
            self._wake.wait(timeout=max(0.0, min(waits)))

    def _run(self, task: Task, batches: int) -> None:
        started = time.monotonic()
        try:
            task.run()
        except Exception:
            # the tables are as they were: each task commits all or nothing
            log.exception("%s failed; trying again later", task.name)
        took_s = time.monotonic() - started
        task.seen = batches
        task.due_s = time.monotonic() + max(task.every_s, took_s / self._settings.upkeep_share)

    def _step_requeue(self) -> None:
        if self._requeue is None:
            return
        while self._wishes:
            self._requeue.ask(self._wishes.popleft())
        if not self._requeue.is_wanted:
            self._requeue.recover()
            return
        if self._requeue.step():
            self._step_repair()  # an outcome that was waited for, or a decision that was
        self._on_news()

    def _step_repair(self) -> None:
        wanted, self._bridging = self._bridging, False
        try:
            self._repair.step()
        except BaseException:
            self._bridging = wanted
            raise
        if wanted:
            self._bridged.set()

    def _settle(self) -> None:
        if self._requeue is not None:
            self._requeue.recover()  # a position would be two things
        offsets, no_record = self._query.consumed
        self._account.settle(
            until=offsets, stream_time_ms=self._stream_time_ms(), no_record=no_record
        )

    def _step_compaction(self) -> None:
        quiet_ms = int(self._settings.compact_after_minutes * 60_000)
        for table in tuple(self._compaction_turns):
            now_ms = time.time_ns() // 1_000_000
            for place, files in due(table.files(), now_ms=now_ms, quiet_ms=quiet_ms).items():
                compact(self._spark, table, place, files, now_ms=now_ms)
                self._compacted += 1
                # an hour that grows is always due: the other table comes first next time
                self._compaction_turns.remove(table)
                self._compaction_turns.append(table)
                return  # one a step: the next rests in proportion to what this one took

    def _step_retention(self) -> None:
        stream_time_ms = self._stream_time_ms()
        if self._pace.allows(stream_time_ms):
            self._drop_oldest_hour(stream_time_ms)
        for cleaner in self._cleaners:
            cleaner.step()

    def _drop_oldest_hour(self, stream_time_ms: int) -> None:
        """Delete the oldest of the hours that are older than the retention, if there is one."""
        days = self._settings.replay_retention_days
        files = {table: table.files() for table in (self._replay, self._ledger)}
        old = outlived([f for of in files.values() for f in of], now_ms=stream_time_ms, days=days)
        places = by_partition(oldest_hour(old)).keys()
        if not places:
            return
        offsets, _ = self._query.applied
        # noted first: where one of the three fails, no other hour goes before its time
        self._pace.note(stream_time_ms)
        self._account.close_partitions(set(places), until=offsets, stream_time_ms=stream_time_ms)
        for table, of in files.items():
            if gone := [f for place, fs in by_partition(of).items() if place in places for f in fs]:
                table.drop(gone, now_ms=time.time_ns() // 1_000_000)
