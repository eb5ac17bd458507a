"""Runs the streaming query: each batch is collected once and committed to the three tables."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from bakehouse_schemas.errors import StackError
from bakehouse_schemas.process.failpoints import during, reach
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.process.spans import Tracer
from bakehouse_stream.kafka.checkpoints import Checkpoint, furthest
from bakehouse_stream.kafka.decode import OUTPUTS, KnownContracts, rows_of
from bakehouse_stream.kafka.gaps import without_record
from bakehouse_stream.kafka.sources import Offsets, stream_records
from bakehouse_stream.queries.replay_query import table_rows
from bakehouse_stream.tables.tables import Table, open_table
from bakehouse_stream.tables.text_ids import TextIds
from bakehouse_stream.traced import joined

# A batch starts this often at most: back to back they would take a core at any load, and an idle
# query would ask the broker twenty times a second.
TRIGGER_MS = 400
LIVENESS_S = 5


@dataclass
class Counts:
    """What this process has appended since it started, and how long the last batch took."""

    batches: int = 0
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTPUTS, 0))
    collect_s: float = 0.0
    commit_s: float = 0.0


class ReplayQuery:
    """The one streaming query. `on_batch` is called after a batch's rows are in the tables.

    Args:
        text_ids: says in which hour an id that is no UUIDv7 lies.
    """

    def __init__(
        self,
        spark: SparkSession,
        settings: Settings,
        refs: list[str],
        checkpoint: Checkpoint,
        *,
        on_batch: Callable[[], None],
        text_ids: TextIds,
        tracer: Tracer | None = None,
        known: KnownContracts | None = None,
    ) -> None:
        self._known = known
        self._tracer = tracer
        self._spark = spark
        self._settings = settings
        self._refs = refs
        self._checkpoint = checkpoint
        self._on_batch = on_batch
        self._tables = self._opened()
        self._text_ids = text_ids
        self._query: StreamingQuery | None = None
        self._lock = threading.Lock()
        self._applied: tuple[Offsets, int] = (
            checkpoint.applied,
            self._tables["replay"].version,
        )
        self._no_record = checkpoint.no_record
        self._start: Offsets = {}  # where the first batch of a new checkpoint begins
        self.counts = Counts()

    @property
    def applied(self) -> tuple[Offsets, int]:
        """Next offsets (everything before is in the tables), and replay's version then."""
        with self._lock:
            return self._applied

    @property
    def consumed(self) -> tuple[Offsets, int]:
        """Next offsets, as in `applied`, and how many positions before them hold no record."""
        with self._lock:
            return self._applied[0], self._no_record

    def _opened(self) -> dict[str, Table]:
        return {output: open_table(self._settings, table) for output, table in OUTPUTS.items()}

    def start(self, start: Offsets) -> None:
        """Start at these offsets, or where the checkpoint left off; also again after an end."""
        self._tables = self._opened()  # a commit that failed may have left a handle behind
        self._text_ids.load(self._tables)
        self._start = start
        both = ["decisions", "outcomes"]
        rows = table_rows(
            stream_records(self._spark, self._settings, both, start=start),
            stream_records(self._spark, self._settings, ["decisions"], start=start),
            stream_records(self._spark, self._settings, both, start=start),
            refs=self._refs,
            decisions_topic=self._settings.topic("decisions"),
            retention=timedelta(minutes=self._settings.join_retention_minutes),
            tasks=self._settings.topic_partitions,
            known=self._known,
        )
        self._query = (
            rows.writeStream.queryName("replay")
            .foreachBatch(self._append)
            .option("checkpointLocation", str(self._checkpoint.path))
            .trigger(processingTime=f"{TRIGGER_MS} milliseconds")
            .start()
        )

    def _append(self, batch: DataFrame, number: int) -> None:
        """Append a batch without a transaction id: the fold absorbs one that is repeated.

        Replay first: whoever sees an outcome in the ledger finds in replay what the join made
        of it.
        """
        started, started_ns = time.perf_counter(), time.time_ns()
        rows = batch.toArrow().combine_chunks()
        collected = time.perf_counter()
        replay = self._tables["replay"]
        found = self._text_ids.placed({output: rows_of(rows, output) for output in OUTPUTS})
        reach("stream.append.before")
        with during("stream.append.inside"):
            appended = replay.append(found["replay"])
        committed = time.perf_counter()
        version = replay.version if appended is None else appended
        reach("stream.append.between")
        for output in ("outcome", "quarantined"):
            self._tables[output].append(found[output])
        self._text_ids.note(self._tables)
        for output, appended_rows in found.items():
            self.counts.rows[output] += appended_rows.num_rows
        reach("stream.append.after")
        self.counts.batches += 1
        self.counts.collect_s = collected - started
        self.counts.commit_s = time.perf_counter() - collected
        offsets = self._checkpoint.planned(number)
        no_record = without_record(
            rows_of(rows, "read").to_pylist(), since=self._news_since(number), until=offsets
        )
        self._checkpoint.note_applied(offsets, no_record=no_record)
        reach("stream.append.noted")
        with self._lock:
            self._applied = (self._checkpoint.applied, version)
            self._no_record = self._checkpoint.no_record
        if self._tracer is not None:
            committed_ns = started_ns + int(1e9 * (committed - started))
            for span in joined(
                found["replay"], self._tracer, committed_ns=committed_ns, version=version
            ):
                self._tracer.add(span)
        self._on_batch()

    def _news_since(self, batch: int) -> Offsets:
        """Where a batch begins, and no earlier than what was applied before it."""
        begin = self._checkpoint.planned(batch - 1) if batch else self._start
        return furthest(begin, self._checkpoint.applied)

    def await_termination(self) -> Exception | None:
        """Block until the query ends; what it died of, None where it was stopped."""
        assert self._query is not None
        thread = self._query._jsq.streamingQuery().queryExecutionThread()
        try:
            while not self._query.awaitTermination(LIVENESS_S):
                # an Error in the JVM (a stack that overflowed, say) can end the thread and leave
                # the query "active"
                if not thread.isAlive() and self._query.isActive:
                    return StackError("the query's thread ended without ending the query")
        except Exception as error:
            return error
        return None

    def last_progress(self) -> Mapping[str, Any] | None:
        """Spark's report on the last batch, None before the first."""
        if self._query is None:
            return None
        progress = self._query._jsq.lastProgress()
        if progress is None:
            return None
        report: dict[str, Any] = orjson.loads(progress.json())
        return report

    def stop(self) -> None:
        """End the query; a batch that is under way is given up and will be repeated."""
        if self._query is not None:
            self._query.stop()
