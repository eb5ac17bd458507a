"""Repair: what the join could not match is found in the tables, and appended.

The join forgets (retention, watermarks, a lost checkpoint); the ledger does not. A step reads the
keys that came since the last one, in the driver: outcomes out of the ledger, and what replay says
of them. Only what remains goes to Spark, and only to the files that can hold its decisions.

The query commits replay before the ledger, so an outcome seen in the ledger (read first) has been
through the join. It is tried when it comes, and again when its decision comes later.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from bakehouse_schemas.process.failpoints import reach
from bakehouse_stream.fold import fold
from bakehouse_stream.join import join_outcomes
from bakehouse_stream.tables.running_account import by_partition
from bakehouse_stream.tables.tables import DataFile, LogGone, Table

# Outcomes that wait for their decision are kept in memory up to here. Where there were more, the
# whole tables are matched again after so many steps (an hour, as often as steps are by default).
MAX_WAITING = 200_000
RECALL_AFTER = 240

log = logging.getLogger("bakehouse_stream.upkeep.repair")


class Key(NamedTuple):
    """One copy of an outcome: each must reach replay, for the earliest of them is what counts."""

    application: str
    hour: int
    decision_id: str
    outcome_id: str
    topic: str
    partition: int
    offset: int


_OF_OUTCOME = ["application", "hour", "decision_id", "outcome_id"]


class Repair:
    """Follows the logs of ledger and replay; its memory survives a restart in a file."""

    def __init__(self, spark: SparkSession, ledger: Table, replay: Table, memory: Path) -> None:
        self._spark = spark
        self._ledger = ledger
        self._replay = replay
        self._memory = memory
        self._waiting: dict[Key, None] = {}
        self._ahead: set[Key] = set()  # seen in replay before the ledger's row was
        self._ledger_version = -1
        self._replay_version = -1
        self._forgot = 0  # steps since more had to wait than fit
        self.repaired = 0
        self._load()

    def step(self) -> int:
        """Match what has come since the last step; returns how many copies were appended."""
        if self._forgot:
            self._forgot += 1
            if self._forgot > RECALL_AFTER:
                return self._recall()
        try:
            ledger_version, told = self._ledger.added_since(self._ledger_version)
            replay_version, seen = self._replay.added_since(self._replay_version)
        except LogGone as gone:
            log.warning("%s; matching whole tables instead", gone)
            return self._recall()
        if not told and not seen:
            return 0
        decided, matched = _seen_keys(self._replay, seen)
        new = _ledger_keys(self._ledger, told)
        to_try = [key for key in new if key not in matched and key not in self._ahead]
        for key in matched:
            self._waiting.pop(key, None)
        to_try += [key for key in self._waiting if (key.application, key.decision_id) in decided]
        appended = self._append_matches(to_try)
        for key in new:
            if key not in matched and key not in self._ahead and key not in appended:
                self._waiting[key] = None
        for key in appended:
            self._waiting.pop(key, None)
        self._bound_waiting()
        self._ahead = matched.difference(new)
        self._ledger_version, self._replay_version = ledger_version, replay_version
        self._save()
        return len(appended)

    def _recall(self) -> int:
        """Match the whole tables, one partition after the other."""
        self._forgot = 0
        ledger_version = self._ledger.delta.version()
        replay_version = self._replay.delta.version()
        told, seen = by_partition(self._ledger.files()), by_partition(self._replay.files())
        appended: set[Key] = set()
        self._waiting.clear()
        for partition, files in told.items():
            _, matched = _seen_keys(self._replay, seen.get(partition, []))
            missing = [key for key in _ledger_keys(self._ledger, files) if key not in matched]
            found = self._append_matches(missing)
            appended |= found
            for key in missing:
                if key not in found:
                    self._waiting[key] = None
            self._bound_waiting()
        self._ahead = set()
        self._ledger_version, self._replay_version = ledger_version, replay_version
        self._save()
        return len(appended)

    def _bound_waiting(self) -> None:
        """Let the oldest go where too many wait; they are found again by a recall."""
        while len(self._waiting) > MAX_WAITING:
            self._waiting.pop(next(iter(self._waiting)))
            self._forgot = max(self._forgot, 1)

    def _append_matches(self, keys: Iterable[Key]) -> set[Key]:
        """Append a row for each of these outcomes whose decision is in replay."""
        wanted: dict[tuple[str, int], set[Key]] = {}
        for key in keys:
            wanted.setdefault((key.application, key.hour), set()).add(key)
        appended: set[Key] = set()
        if not wanted:
            return appended
        replay, ledger = by_partition(self._replay.files()), by_partition(self._ledger.files())
        for partition, here in wanted.items():
            ids = sorted({key.decision_id for key in here})
            decisions = [f for f in replay.get(partition, []) if f.may_hold(ids)]
            outcomes = [f for f in ledger.get(partition, []) if f.may_hold(ids)]
            if decisions and outcomes:
                rows = self._match(partition, here, decisions, outcomes)
                reach("stream.repair.before_append")
                self._replay.append(rows)
                reach("stream.repair.after_append")
                appended |= _keys_of_replay(rows) & here
        self.repaired += len(appended)
        return appended

    def _match(
        self,
        partition: tuple[str, int],
        wanted: set[Key],
        decisions: list[DataFile],
        outcomes: list[DataFile],
    ) -> pa.Table:
        """Rows of `replay` for the wanted outcomes whose decisions these files hold."""
        keys = self._spark.createDataFrame(
            [(key.decision_id, key.outcome_id) for key in wanted],
            "decision_id string, outcome_id string",
        )
        of_decisions = keys.select("decision_id").distinct()
        rows = read_rows(self._spark, self._replay, partition, decisions)
        rows = fold(rows.join(F.broadcast(of_decisions), "decision_id", "left_semi"))
        told = read_rows(self._spark, self._ledger, partition, outcomes)
        told = told.join(F.broadcast(keys), ["decision_id", "outcome_id"], "left_semi")
        return match(rows, told).toArrow()

    def _load(self) -> None:
        if not self._memory.is_file():
            return
        try:
            kept = json.loads(self._memory.read_text())
        except ValueError:
            log.warning("%s is torn; matching from the start", self._memory)
            return
        if any(len(key) != len(Key._fields) for key in kept["waiting"]):
            log.warning("%s was written by another release; matching from the start", self._memory)
            return
        self._ledger_version, self._replay_version = kept["ledger"], kept["replay"]
        self._waiting = {Key(*key): None for key in kept["waiting"]}

    def _save(self) -> None:
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        aside = self._memory.with_suffix(".aside")
        aside.write_text(
            json.dumps(
                {
                    "ledger": self._ledger_version,
                    "replay": self._replay_version,
                    "waiting": list(self._waiting),
                }
            )
        )
        aside.replace(self._memory)

    @property
    def waiting(self) -> int:
        """Outcomes whose decision has not come."""
        return len(self._waiting)


def match(decisions: DataFrame, ledger: DataFrame) -> DataFrame:
    """Rows of `replay`, one for each outcome of the ledger that meets its (folded) decision."""
    left = decisions.select(
        "application", "decision_id", "received_at", F.struct(*decisions.columns).alias("decision")
    )
    entry = [n for n in ledger.columns if n not in ("application", "hour", "decision_id")]
    right = ledger.select(
        "application", "decision_id", "received_at", F.struct(*entry).alias("outcome")
    )
    pairs = join_outcomes(left, right, retention=None)
    return pairs.select(
        *[
            F.array("outcome").alias(name) if name == "outcomes" else F.col(f"decision.{name}")
            for name in decisions.columns
        ]
    )


def read_rows(
    spark: SparkSession, table: Table, partition: tuple[str, int], files: list[DataFile]
) -> DataFrame:
    """These files of one partition as a DataFrame of all the columns that the table has.

    Null where a file was written by a release that did not know them.
    """
    schema = table.spark_schema
    stored = type(schema)([f for f in schema if f.name not in ("application", "hour")])
    rows = spark.read.schema(stored).parquet(*[table.address(file.path) for file in files])
    application, hour = partition
    rows = rows.withColumn("application", F.lit(application)).withColumn(
        "hour", F.lit(hour).cast("long")
    )
    return rows.select(*schema.fieldNames())


def _ledger_keys(ledger: Table, files: list[DataFile]) -> list[Key]:
    rows = ledger.read(files, [*_OF_OUTCOME, "positions"])
    return _by_position(rows.select(_OF_OUTCOME), rows.column("positions"))


def _seen_keys(replay: Table, files: list[DataFile]) -> tuple[set[tuple[str, str]], set[Key]]:
    """Decisions that stand in these files, and outcomes that do."""
    rows = replay.read(files, ["application", "hour", "decision_id", "outcomes"])
    decided = set(
        zip(
            rows.column("application").to_pylist(),
            rows.column("decision_id").to_pylist(),
            strict=True,
        )
    )
    return decided, _keys_of_replay(rows)


def _keys_of_replay(rows: pa.Table) -> set[Key]:
    outcomes = rows.column("outcomes").combine_chunks()
    of = rows.select(["application", "hour", "decision_id"]).take(pc.list_parent_indices(outcomes))
    each = pc.list_flatten(outcomes)
    of = of.append_column("outcome_id", pc.struct_field(each, "outcome_id"))
    return set(_by_position(of, pc.struct_field(each, "positions")))


def _by_position(outcomes: pa.Table, positions: pa.ChunkedArray | pa.Array) -> list[Key]:
    """A key for each position of each outcome."""
    if isinstance(positions, pa.ChunkedArray):
        positions = positions.combine_chunks()
    of = outcomes.take(pc.list_parent_indices(positions))
    each = pc.list_flatten(positions)
    places = [pc.struct_field(each, name).to_pylist() for name in ("topic", "partition", "offset")]
    columns = [column.to_pylist() for column in of.columns]
    return [Key(*values) for values in zip(*columns, *places, strict=True)]
