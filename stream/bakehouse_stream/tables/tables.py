"""The Delta tables: made, appended to, read file by file. This process is their only writer.

Spark computes, and the Delta library of the Rust project commits: 10 ms for an append where
Spark's own takes 300, most of which is planning. Whatever reads Delta reads these tables.
"""

from __future__ import annotations

import json
import uuid
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    WriterProperties,
    write_deltalake,
)
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction, RemoveAction
from pyarrow import fs

from bakehouse_schemas.errors import StackError
from bakehouse_schemas.process.durable import sync_path
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.replay.tables import PARTITIONED_BY, TABLES
from bakehouse_stream.columns import arrow_schema, conformed, has_all

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

FIRST_OFFSETS = "bakehouse.firstOffsets"  # what was consumed is counted from here
COMMIT_RETRIES = 100  # appends meet compaction; neither touches what the other does

_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_WRITER = WriterProperties(compression="ZSTD", compression_level=1)


class LogGone(StackError):
    """A version is no longer in a table's log; read the whole table instead."""


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of a table; `path` is relative to the table."""

    path: str
    size: int
    rows: int
    modified_ms: int
    partition: Mapping[str, Any]  # application, hour; empty for quarantine
    low: str | None  # least decision_id, None where unknown
    high: str | None  # greatest decision_id

    @property
    def stats(self) -> str:
        """Statistics as Delta's log has them; readers skip files by them."""
        found: dict[str, Any] = {"numRecords": self.rows}
        if self.low is not None:
            found["minValues"] = {"decision_id": self.low}
            found["maxValues"] = {"decision_id": self.high}
            found["nullCount"] = {"decision_id": 0}
        # as it is: Delta's own reader takes an escaped U+20000 for another sign
        return json.dumps(found, ensure_ascii=False)

    def may_hold(self, decision_ids: Sequence[str]) -> bool:
        """Whether one of these (sorted) can be in the file."""
        if self.low is None or self.high is None:
            return True
        at = bisect_left(decision_ids, self.low)
        return at < len(decision_ids) and decision_ids[at] <= self.high

    @classmethod
    def of_action(cls, action: Mapping[str, Any]) -> DataFile:
        """From a row of `get_add_actions(flatten=True)`."""
        return cls(
            path=action["path"],
            size=action["size_bytes"],
            rows=action["num_records"],
            modified_ms=action["modification_time"],
            partition={
                name.removeprefix("partition."): value
                for name, value in action.items()
                if name.startswith("partition.")
            },
            low=action.get("min.decision_id"),
            high=action.get("max.decision_id"),
        )

    @classmethod
    def of_log(cls, add: Mapping[str, Any]) -> DataFile:
        """From an `add` of the log."""
        values = dict(add["partitionValues"])
        if "hour" in values:
            values["hour"] = int(values["hour"])
        stats = json.loads(add["stats"])
        return cls(
            path=add["path"],
            size=add["size"],
            rows=stats["numRecords"],
            modified_ms=add["modificationTime"],
            partition=values,
            low=stats.get("minValues", {}).get("decision_id"),
            high=stats.get("maxValues", {}).get("decision_id"),
        )

    @property
    def partition_text(self) -> dict[str, str]:
        """Partition values as the log writes them."""
        return {name: str(value) for name, value in self.partition.items()}


class Table:
    """One Delta table. Each thread takes its own: a handle is not to be shared.

    Args:
        schema: the columns that this release knows; `stored` are those that the table has, some of
            which a later release may have added.
    """

    def __init__(self, name: str, uri: str) -> None:
        self.name = name
        self.uri = uri
        self.schema = arrow_schema(name)
        self._delta = DeltaTable(uri)
        self.stored: pa.Schema = pa.schema(self._delta.schema().to_arrow())
        self._is_later = not has_all(self.schema, self.stored)
        # paths in it are relative to the table, on a disk and in an object store alike
        self.filesystem = fs.PyFileSystem(DeltaStorageHandler.from_table(self._delta._table))

    @property
    def version(self) -> int:
        """Version of the snapshot that this handle has."""
        return int(self._delta.version())

    @property
    def delta(self) -> DeltaTable:
        """The handle itself, brought up to date."""
        self._delta.update_incremental()
        return self._delta

    @property
    def spark_schema(self) -> StructType:
        """All columns that the table has, as Spark's type: Delta's log holds it in those words."""
        from pyspark.sql.types import StructType

        return StructType.fromJson(json.loads(self._delta.schema().to_json()))

    def append(self, rows: pa.Table) -> int | None:
        """Commit rows; returns the version that holds them, None where there were none.

        Raises:
            ValueError: rows have no place among the table's partitions; none was appended.
        """
        if rows.num_rows == 0:
            return None
        for name in PARTITIONED_BY[self.name]:
            if lacking := rows.column(name).null_count:  # nobody could ever read or mend them
                raise ValueError(f"{lacking} rows for {self.uri} have no {name}")
        write_deltalake(
            self._delta,
            # columns of a later release are null in what this one adds
            conformed(rows, self.stored) if self._is_later else conformed(rows, self.schema),
            mode="append",
            writer_properties=_WRITER,
            commit_properties=CommitProperties(max_commit_retries=COMMIT_RETRIES),
            post_commithook_properties=_NO_HOOKS,
        )
        return self.version  # the writer has brought the handle up to date

    def files(self) -> list[DataFile]:
        """The files that make up the table now."""
        found = pa.table(self.delta.get_add_actions(flatten=True)).to_pylist()
        return [DataFile.of_action(action) for action in found]

    def added_since(self, version: int) -> tuple[int, list[DataFile]]:
        """The newest version, and the files that brought news after `version`, oldest first.

        What a compaction wrote (`dataChange=false`) is no news.

        Raises:
            LogGone: the log no longer reaches back that far.
        """
        newest = int(self.delta.version())
        files: list[DataFile] = []
        for number in range(version + 1, newest + 1):
            try:
                with self.filesystem.open_input_file(f"_delta_log/{number:020d}.json") as log:
                    actions = log.read().splitlines()
            except FileNotFoundError as error:
                raise LogGone(f"{self.uri}: version {number} is no longer in the log") from error
            for line in actions:
                add = json.loads(line).get("add")
                if add is not None and add["dataChange"]:
                    files.append(DataFile.of_log(add))
        return newest, files

    def read(self, files: Iterable[DataFile], columns: list[str]) -> pa.Table:
        """These columns of these files; partition columns come from the files' addresses."""
        parts = [self._read_one(file, columns) for file in files]
        fields = pa.schema([self.schema.field(name) for name in columns])
        return pa.concat_tables([fields.empty_table(), *parts])

    def _read_one(self, file: DataFile, columns: list[str]) -> pa.Table:
        fields = pa.schema([self.schema.field(name) for name in columns])
        stored = [name for name in columns if name not in file.partition]
        with self.filesystem.open_input_file(file.path) as source:
            # a file of an earlier release lacks some of the columns
            read = pq.ParquetFile(source).read(columns=stored)
        for name in columns:
            if name in file.partition:
                values = pa.array([file.partition[name]] * read.num_rows, fields.field(name).type)
                read = read.append_column(name, values)
        return conformed(read, fields)

    def replace(
        self,
        gone: Iterable[DataFile],
        written: Iterable[DataFile],
        *,
        now_ms: int,
        data_change: bool = False,
    ) -> int:
        """Swap files for others that say the same; readers that tail see nothing new.

        Removes exactly `gone`: what was appended since they were listed stays.

        Args:
            data_change: they do not say the same.
        """
        actions: list[AddAction | RemoveAction] = [
            RemoveAction(f.path, data_change, now_ms, f.size, f.partition_text) for f in gone
        ]
        actions += [
            AddAction(f.path, f.size, f.partition_text, now_ms, data_change, f.stats)
            for f in written
        ]
        self._commit(actions)
        return self.version

    def whole(self, file: DataFile) -> pa.Table:
        """A file of a table without partitions, with all columns that the table has."""
        with self.filesystem.open_input_file(file.path) as source:
            return conformed(pq.ParquetFile(source).read(), self.stored)

    def rewrite(self, gone: Iterable[DataFile], parts: Iterable[pa.Table], *, now_ms: int) -> int:
        """Put rows in the place of files, of a table without partitions, in one commit.

        What was appended since the files were listed stays.
        """
        rows = pa.concat_tables([conformed(part, self.stored) for part in parts])
        written = []
        if rows.num_rows:
            path = f"kept-{uuid.uuid4()}.parquet"
            with self.filesystem.open_output_stream(path) as sink:
                pq.write_table(rows, sink, compression="zstd")
            size = self.filesystem.get_file_info(path).size
            written = [DataFile(path, size, rows.num_rows, now_ms, {}, None, None)]
        return self.replace(gone, written, now_ms=now_ms, data_change=True)

    def drop(self, gone: Iterable[DataFile], *, now_ms: int) -> int:
        """Forget files: their rows are no longer part of the table."""
        self._commit([RemoveAction(f.path, True, now_ms, f.size, f.partition_text) for f in gone])
        return self.version

    def _commit(self, actions: list[AddAction | RemoveAction]) -> None:
        delta = self.delta
        delta.create_write_transaction(
            actions,
            mode="append",
            schema=delta.schema(),
            partition_by=PARTITIONED_BY[self.name],
            commit_properties=CommitProperties(max_commit_retries=COMMIT_RETRIES),
            post_commithook_properties=_NO_HOOKS,
        )
        delta.update_incremental()

    def address(self, path: str) -> str:
        """Where a file of the table lies, as Spark's file systems write it."""
        return f"{self.uri}/{path}".replace("s3://", "s3a://", 1)

    def clean(self, *, removed_files_retention_hours: int) -> None:
        """Delete removed files that have outlived their retention, then old log entries.

        In this order: a checkpoint forgets the files whose retention is over, and what it has
        forgotten no vacuum finds.
        """
        delta = self.delta
        delta.vacuum(
            retention_hours=removed_files_retention_hours,
            dry_run=False,
            enforce_retention_duration=False,
            post_commithook_properties=_NO_HOOKS,
        )
        self.delta.create_checkpoint()
        self._sync_log()  # before what it stands for is deleted
        self.delta.cleanup_metadata()
        delta.update_incremental()

    def _sync_log(self) -> None:
        """Have the disk hold the log's checkpoint; an object store does by itself."""
        if "://" in self.uri:
            return
        folder = Path(self.uri) / "_delta_log"
        for path in (*folder.glob("*.checkpoint*.parquet"), folder / "_last_checkpoint", folder):
            sync_path(path)

    def first_offsets(self) -> dict[str, dict[str, int]]:
        """Topic → partition → first offset ever consumed into these tables."""
        text = self._delta.metadata().configuration.get(FIRST_OFFSETS, "{}")
        found: dict[str, dict[str, int]] = json.loads(text)
        return found


def tables_exist(settings: Settings) -> bool:
    """Whether all tables of these settings are there."""
    return all(DeltaTable.is_deltatable(table_uri(settings, name)) for name in TABLES)


def create_tables(settings: Settings, *, first_offsets: Mapping[str, Mapping[str, int]]) -> None:
    """Make the tables that are not there yet; those that are stay as they are."""
    minutes = max(1, round(settings.log_retention_minutes))
    for name in TABLES:
        uri = table_uri(settings, name)
        if DeltaTable.is_deltatable(uri):
            continue
        DeltaTable.create(
            uri,
            schema=arrow_schema(name),
            partition_by=PARTITIONED_BY[name] or None,
            configuration={
                "delta.checkpointInterval": "100",
                "delta.logRetentionDuration": f"interval {minutes} minutes",
                "delta.deletedFileRetentionDuration": (
                    f"interval {settings.removed_files_retention_hours} hours"
                ),
                "delta.dataSkippingStatsColumns": (
                    "reason" if name == "quarantine" else "decision_id"
                ),
                FIRST_OFFSETS: json.dumps(first_offsets),
            },
            raise_if_key_not_exists=False,
        )


def add_columns(settings: Settings) -> dict[str, int]:
    """Give the tables that are there the columns that this release adds, at any depth.

    One commit for each table that lacks some, without data: what is there stays as it was written,
    and readers of the release before go on. Returns table → its version since.
    """
    found = {}
    for name in TABLES:
        delta = DeltaTable(table_uri(settings, name))
        wanted = arrow_schema(name)
        if has_all(pa.schema(delta.schema().to_arrow()), wanted):
            continue
        write_deltalake(
            delta,
            wanted.empty_table(),
            mode="append",
            schema_mode="merge",
            commit_properties=CommitProperties(max_commit_retries=COMMIT_RETRIES),
            post_commithook_properties=_NO_HOOKS,
        )
        found[name] = int(delta.version())
    return found


def table_uri(settings: Settings, name: str) -> str:
    """Where a table lies."""
    return f"{settings.tables.rstrip('/')}/{name}"


def open_table(settings: Settings, name: str) -> Table:
    """A handle of an existing table, for one thread."""
    return Table(name, table_uri(settings, name))
