"""Batch time of the streaming join at 20 thousand and at 2 million open decisions.

Two streaming queries in one Spark session, stream's own (its session, its plan, its tables), one
with few open decisions in its state and one with many. Files of records stand in for Kafka, so
both get exactly the same: batches of 4,000 events, half decisions, half outcomes of decisions
that were drawn from all that are open. They take turns. Event time moves so that every batch also
evicts as many decisions as it adds: both are measured in their steady state.

    batch_s_small, batch_s_large   median seconds of a batch, from trigger to commit
    batch_ratio                    large / small, median over turns; at most 1.3
    events_per_core_s              events a second of CPU (driver, JVM and Python workers), large
    phases_small, phases_large     where the time of a batch goes, medians in seconds
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bakehouse.local.java import find_java
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.settings import Settings
from tests.bench.events import decision_event, outcome_event
from tests.bench.game import REF
from tests.bench.measure import Options, alternate, median, median_ratio, tree_cpu_s, wait_until

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

SMALL, LARGE = 20_000, 2_000_000
RETENTION = timedelta(minutes=30)
TEMPLATES = 2_000  # different contexts; only ids differ beyond them
CHUNK = 100_000  # decisions in a file of the preload
ID = b"@decision@"
DECISIONS, OUTCOMES = "bench.decisions.v1", "bench.outcomes.v1"
RECORDS = pa.schema(
    [
        pa.field(
            "record",
            pa.struct(
                [
                    pa.field("topic", pa.string()),
                    pa.field("partition", pa.int32()),
                    pa.field("offset", pa.int64()),
                    pa.field("received_at_ms", pa.int64()),
                    pa.field("key", pa.binary()),
                    pa.field("value", pa.binary()),
                ]
            ),
        ),
        pa.field("received_at", pa.timestamp("us", tz="UTC")),
    ]
)


class Turn(NamedTuple):
    """One batch of events through one query."""

    batch_s: float
    cpu_s: float
    batches: int  # micro-batches that it took; more than one if a trigger came in between
    phases: dict[str, float]


def run(options: Options) -> dict[str, Any]:
    """Measure; see the module."""
    from bakehouse_stream.session import start_session

    small, large = options.sized(SMALL, 2_000), options.sized(LARGE, 20_000)
    events = options.sized(4_000, 400)
    turns = options.sized(15, 3)
    os.environ["JAVA_HOME"] = str(find_java().home)
    settings = Settings(home=options.scratch / "home")
    spark = start_session(settings, jars=[])
    try:
        sides = {
            "small": Side(options.scratch / "small", small, events),
            "large": Side(options.scratch / "large", large, events),
        }
        for name, side in sides.items():
            began = time.perf_counter()
            side.start(spark)
            options.say(
                f"{name}: {side.open} open decisions after {time.perf_counter() - began:.0f} s"
            )
        for _ in range(3):  # the first batches after a start are slow: code is still compiled
            for side in sides.values():
                side.turn()
        found = alternate(
            turns,
            {name: side.turn for name, side in sides.items()},
            after=lambda what, turn: options.say(
                f"{what}: {turn.batch_s:.2f} s, CPU {turn.cpu_s:.2f} s"
            ),
        )
        for side in sides.values():
            side.check()
            side.stop()
    finally:
        spark.stop()
    batch_s = {name: [turn.batch_s for turn in of_side] for name, of_side in found.items()}
    return {
        "events_per_core_s": events / median(turn.cpu_s for turn in found["large"]),
        "batch_s_small": median(batch_s["small"]),
        "batch_s_large": median(batch_s["large"]),
        "batch_ratio": median_ratio(batch_s["large"], batch_s["small"]),
        "max_batch_s_small": max(batch_s["small"]),
        "max_batch_s_large": max(batch_s["large"]),
        "open_small": small,
        "open_large": large,
        "events_a_batch": events,
        "cpu_s_small": median(turn.cpu_s for turn in found["small"]),
        "cpu_s_large": median(turn.cpu_s for turn in found["large"]),
        "phases_small": phases(found["small"]),
        "phases_large": phases(found["large"]),
        "split_batches": sum(turn.batches > 1 for of_side in found.values() for turn in of_side),
    }


def phases(turns: list[Turn]) -> dict[str, float]:
    """Median seconds of each phase that Spark or we name."""
    names = sorted({name for turn in turns for name in turn.phases})
    return {name: median(turn.phases.get(name, 0.0) for turn in turns) for name in names}


class Side:
    """One streaming query with so many open decisions.

    Args:
        folder: for its files, tables and checkpoint.
        open_: decisions in its state before the first turn.
        events: of a turn, half of them decisions.
    """

    def __init__(self, folder: Path, open_: int, events: int) -> None:
        self.open = open_
        self._folder = folder
        self._each = events // 2
        # so far event time moves in a turn that as many decisions fall out as come in
        self._step_ms = RETENTION.total_seconds() * 1000 * self._each / open_
        self._rng = np.random.default_rng(open_)
        self._templates = [
            orjson.dumps(decision_event(ID.decode(), self._rng)) for _ in range(TEMPLATES)
        ]
        self._began_ms = time.time_ns() // 1_000_000
        self._ids = np.empty(0, "S36")
        self._turns = 0
        self._offset = 0
        self._appends_s: list[float] = []
        self._rows = 0
        self._query: StreamingQuery | None = None

    def start(self, spark: SparkSession) -> None:
        """Fill the state, and wait until it is filled."""
        from bakehouse_stream.kafka.decode import OUTPUTS, rows_of
        from bakehouse_stream.queries.replay_query import table_rows
        from bakehouse_stream.tables.tables import create_tables, open_table

        for name in ("preload", "batches"):
            (self._folder / name).mkdir(parents=True)
        self._write_preload()
        settings = Settings(home=self._folder / "home")
        create_tables(settings, first_offsets={})
        tables = {column: open_table(settings, name) for column, name in OUTPUTS.items()}

        def append(rows: DataFrame, _: int) -> None:
            came = rows.toArrow().combine_chunks()
            began = time.perf_counter()
            for column, table in tables.items():
                found = rows_of(came, column)
                table.append(found)
                self._rows += found.num_rows
            self._appends_s.append(time.perf_counter() - began)

        def records(name: str) -> DataFrame:
            reader = spark.readStream.schema(
                "record struct<topic string, partition int, offset bigint, "
                "received_at_ms bigint, key binary, value binary>, received_at timestamp"
            )
            return reader.option("maxFilesPerTrigger", 2).parquet(str(self._folder / name))

        frame = table_rows(
            records("batches"),
            records("preload").unionByName(
                records("batches").where(f"record.topic = '{DECISIONS}'")
            ),
            records("batches"),
            refs=[REF],
            decisions_topic=DECISIONS,
            retention=RETENTION,
        )
        self._query = (
            frame.writeStream.foreachBatch(append)
            .option("checkpointLocation", str(self._folder / "checkpoint"))
            .start()
        )
        self._query.processAllAvailable()

    def turn(self) -> Turn:
        """One batch of events; returns when it is committed."""
        assert self._query is not None
        self._turns += 1
        now_ms = self._began_ms + round(self._turns * self._step_ms)
        fresh = [uuid7(now_ms) for _ in range(self._each)]
        # of all that are open, but for those that this or the next batches evict
        first = (self._turns + 5) * self._each
        of = self._ids[self._rng.integers(first, len(self._ids), self._each)]
        self._ids = np.concatenate([self._ids, np.array(fresh, "S36")])
        rows = [self._record(DECISIONS, i, now_ms, self._decision(i)) for i in fresh]
        rows += [
            self._record(
                OUTCOMES,
                i.decode(),
                now_ms,
                orjson.dumps(outcome_event(i.decode(), self._rng, now_ms=now_ms)),
            )
            for i in of.tolist()
        ]
        before, appends = self._last_batch(), len(self._appends_s)
        cpu = tree_cpu_s(os.getpid())
        self._write("batches", f"{self._turns:06d}", rows)
        self._query.processAllAvailable()
        wait_until(lambda: self._last_batch() > before, 60, "the batch's report")
        cpu = tree_cpu_s(os.getpid()) - cpu
        done = [p for p in self._query.recentProgress if p.batchId > before and p.numInputRows > 0]
        spent: dict[str, float] = {}
        for progress in done:
            for name, ms in progress.durationMs.items():
                spent[name] = spent.get(name, 0.0) + ms / 1000
        spent["append"] = sum(self._appends_s[appends:])
        return Turn(spent["triggerExecution"], cpu, len(done), spent)

    def check(self) -> None:
        """Raise RuntimeError unless everything that was sent arrived, joined, in the tables.

        A decision is one row; an outcome is one row in the ledger, and one joined.
        """
        expected = self._turns * self._each * 3
        if self._rows != expected:
            raise RuntimeError(
                f"{self._rows} rows in the tables, expected {expected}: some outcomes did not meet "
                "their decisions, and what was measured is not the join"
            )

    def stop(self) -> None:
        """Stop the query."""
        assert self._query is not None
        self._query.stop()

    def _last_batch(self) -> int:
        assert self._query is not None
        return max(
            (p.batchId for p in self._query.recentProgress if p.numInputRows > 0), default=-1
        )

    def _write_preload(self) -> None:
        chunks = []
        for start in range(0, self.open, CHUNK):
            count = min(CHUNK, self.open - start)
            ages = (self.open - start - np.arange(count)) / self.open
            at_ms = self._began_ms - (ages * RETENTION.total_seconds() * 1000).astype(np.int64)
            ids = [uuid7(ms) for ms in at_ms.tolist()]
            rows = [
                self._record(DECISIONS, i, ms, self._decision(i))
                for i, ms in zip(ids, at_ms.tolist(), strict=True)
            ]
            self._write("preload", f"{start:09d}", rows)
            chunks.append(np.array(ids, "S36"))
        self._ids = np.concatenate(chunks)

    def _decision(self, decision_id: str) -> bytes:
        template = self._templates[self._offset % TEMPLATES]
        return template.replace(ID, decision_id.encode())

    def _record(self, topic: str, decision_id: str, at_ms: int, value: bytes) -> dict[str, Any]:
        self._offset += 1
        return {
            "topic": topic,
            "partition": 0,
            "offset": self._offset,
            "received_at_ms": at_ms,
            "key": decision_id.encode(),
            "value": value,
        }

    def _write(self, folder: str, name: str, rows: list[dict[str, Any]]) -> None:
        record = pa.array(rows, RECORDS.field("record").type)
        received = pc.multiply(record.field("received_at_ms"), 1000).cast(pa.timestamp("us", "UTC"))
        table = pa.Table.from_arrays([record, received], schema=RECORDS)
        aside = self._folder / f"{name}.aside"
        pq.write_table(table, aside)
        aside.rename(self._folder / folder / f"{name}.parquet")
