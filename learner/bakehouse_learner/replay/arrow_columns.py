"""The columns of the table `replay` that the learner reads, out of Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from bakehouse_learner.replay.folded_decision import Position

COLUMNS = [
    "decision_id",
    "contract",
    "subject_id",
    "previous_decision_id",
    "decided_at_ms",
    "context",
    "observation",
    "eligible_actions",
    "items",
    "action",
    "propensity",
    "action_probabilities",
    "density",
    "baseline_action",
    "policy_version",
    "exploration",
    "draw",
    "mode",
    "cohort",
    "explored",
    "outcomes",
    "positions",
    "contested",
]
NESTED = frozenset({"observation", "outcomes", "positions"})


def array_of(table: pa.Table, name: str) -> pa.Array:
    """A column in one piece."""
    column = table.column(name)
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks()


def values_of(table: pa.Table, name: str) -> list[Any]:
    """A column of plain values."""
    values: list[Any] = table.column(name).to_pylist()
    return values


def float_lists(table: pa.Table, name: str) -> list[np.ndarray | None]:
    """A column of lists of numbers, each float32."""
    array = array_of(table, name)
    offsets = array.offsets.to_pylist()
    numbers = array.values.to_numpy(zero_copy_only=False).astype(np.float32)
    valid = array.is_valid().to_pylist()
    return [
        numbers[start:stop] if there else None
        for start, stop, there in zip(offsets[:-1], offsets[1:], valid, strict=True)
    ]


def position_lists(array: pa.Array) -> Iterator[tuple[Position, ...]]:
    """Sets of places in Kafka, each sorted."""
    offsets, structs = array.offsets.to_pylist(), array.values
    fields = [structs.field(name).to_pylist() for name in Position._fields]
    places = [Position(*values) for values in zip(*fields, strict=True)]
    for start, stop in pairwise(offsets):
        if stop - start == 1:
            yield (places[start],)
        else:
            yield tuple(sorted(set(places[start:stop])))
