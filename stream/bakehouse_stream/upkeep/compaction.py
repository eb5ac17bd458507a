"""Compaction: many small files of one partition as one, folded; nothing new for those that tail.

Spark folds and writes; the commit removes exactly the files that were read and adds what they
fold to. The fold is associative, so what was appended meanwhile is folded with it by readers.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs as arrow_fs
from pyspark.sql import DataFrame, SparkSession

from bakehouse_schemas.process.failpoints import reach
from bakehouse_stream.fold import fold
from bakehouse_stream.tables.tables import DataFile, Table
from bakehouse_stream.upkeep.repair import read_rows

MIN_FILES = 20  # fewer are not worth a job, unless the hour is over
LARGE_BYTES = 64 << 20  # in an hour that still grows, large files are left for its end


def due(
    files: Iterable[DataFile], *, now_ms: int, quiet_ms: int
) -> dict[tuple[str, int], list[DataFile]]:
    """What to compact: partition → files, the oldest hour first.

    One that grows is always due again, and must not keep those that are over from their turn.
    An hour in which nothing was written for `quiet_ms` becomes one file (if it is more than one);
    in one that still grows, the small files that are older than that.
    """
    partitions: dict[tuple[str, int], list[DataFile]] = {}
    for file in files:
        place = (file.partition["application"], file.partition["hour"])
        partitions.setdefault(place, []).append(file)
    found = {}
    for place, here in sorted(partitions.items(), key=lambda one: one[0][1]):
        old = [file for file in here if file.modified_ms <= now_ms - quiet_ms]
        if len(old) < len(here):
            old = [file for file in old if file.size < LARGE_BYTES]
            if len(old) < MIN_FILES:
                continue
        if len(old) > 1:
            found[place] = old
    return found


def compact(
    spark: SparkSession,
    table: Table,
    partition: tuple[str, int],
    files: list[DataFile],
    *,
    now_ms: int,
) -> int:
    """Fold these files of one partition into one; returns the version that has it."""
    rows = read_rows(spark, table, partition, files)
    folded = fold(rows) if table.name == "replay" else once(rows)
    application, hour = partition
    folder = f"application={application}/hour={hour}/folded-{uuid.uuid4()}"
    (
        folded.drop("application", "hour")
        .coalesce(1)
        .sortWithinPartitions("decision_id")
        .write.option("compression", "zstd")
        .parquet(table.address(folder))
    )
    written = [
        _written(table, found, partition, now_ms)
        for found in table.filesystem.get_file_info(arrow_fs.FileSelector(folder))
        if found.path.endswith(".parquet")
    ]
    reach("stream.compaction.before_commit")
    version = table.replace(files, written, now_ms=now_ms)
    reach("stream.compaction.after_commit")
    return version


def once(ledger: DataFrame) -> DataFrame:
    """Ledger rows, each Kafka position once: a repeated batch repeats its rows."""
    return ledger.dropDuplicates(["application", "decision_id", "outcome_id", "positions"])


def _written(
    table: Table, found: arrow_fs.FileInfo, partition: tuple[str, int], now_ms: int
) -> DataFile:
    with table.filesystem.open_input_file(found.path) as source:
        ids = pq.ParquetFile(source).read(columns=["decision_id"]).column("decision_id")
    span = pc.min_max(ids).as_py()
    return DataFile(
        path=found.path,
        size=found.size,
        rows=len(ids),
        modified_ms=now_ms,
        partition={"application": partition[0], "hour": partition[1]},
        low=span["min"],
        high=span["max"],
    )
