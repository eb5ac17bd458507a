"""Positions that hold no record, told from records that were lost.

The end of a transaction is a position of its own, and so are the records of one that was aborted:
consumed, and nothing to be applied. Spark hands over every record between two offsets, or fails
where Kafka has lost some, so what it passes over inside a batch holds none. Which offsets it
handed over is noted before anything is made of them: a row that goes missing later is no gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bakehouse_stream.kafka.decode import OUTPUT_SCHEMA, Batches
from bakehouse_stream.kafka.sources import Offsets

READ = pa.struct(
    [("topic", pa.string()), ("partition", pa.int32()), ("first", pa.int64()), ("next", pa.int64())]
)
READ_COLUMN = "read struct<topic string, partition int, first bigint, next bigint>"
Run = Mapping[str, Any]  # topic, partition, first offset, the offset after the last: all were read

_SCHEMA = OUTPUT_SCHEMA.append(pa.field("read", READ))


def noting(decode: Callable[[Batches], Batches]) -> Callable[[Batches], Batches]:
    """For `mapInArrow`: what `decode` makes, and at the end `read`, which offsets came.

    Where there are no transactions that is one row for each partition and batch of Arrow.
    """

    def decode_and_note(batches: Batches) -> Batches:
        runs: list[Run] = []

        def passing() -> Batches:
            for batch in batches:
                runs.extend(runs_of(batch))
                yield batch

        for made in decode(passing()):
            columns = [*made.columns, pa.nulls(made.num_rows, READ)]
            yield pa.RecordBatch.from_arrays(columns, schema=_SCHEMA)
        if runs:
            yield pa.RecordBatch.from_pylist([{"read": run} for run in runs], schema=_SCHEMA)

    return decode_and_note


def runs_of(batch: pa.RecordBatch) -> list[Run]:
    """Offsets of the records by themselves (not those of pairs), as unbroken runs."""
    record = batch.column(batch.schema.get_field_index("record"))
    record = record.filter(record.is_valid())
    topics, partitions = record.field("topic"), record.field("partition")
    runs: list[Run] = []
    for topic in pc.unique(topics).to_pylist():
        for partition in pc.unique(partitions.filter(pc.equal(topics, topic))).to_pylist():
            here = pc.and_(pc.equal(topics, topic), pc.equal(partitions, partition))
            offsets = np.sort(record.field("offset").filter(here).to_numpy(zero_copy_only=False))
            for run in np.split(offsets, np.flatnonzero(np.diff(offsets) != 1) + 1):
                place = {"topic": topic, "partition": partition}
                runs.append(place | {"first": int(run[0]), "next": int(run[-1]) + 1})
    return runs


def without_record(read: Iterable[Run], *, since: Offsets, until: Offsets) -> int:
    """How many positions from `since` up to `until` hold no record.

    Args:
        read: what Spark handed over of them; what lies outside is not counted.
        since: a partition that is not in it begins at 0, as one that was added later does.
        until: where the batch ended.
    """
    runs: dict[tuple[str, str], list[Run]] = {}
    for run in read:
        runs.setdefault((run["topic"], str(run["partition"])), []).append(run)
    found = 0
    for topic, partitions in until.items():
        for partition, end in partitions.items():
            begin = since.get(topic, {}).get(partition, 0)
            held = sum(
                max(0, min(run["next"], end) - max(run["first"], begin))
                for run in runs.get((topic, partition), ())
            )
            found += max(0, end - begin) - held
    return found
