"""Fills a ring from the table itself, where its log does not reach back far enough."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from bakehouse_learner.replay.arrow_columns import COLUMNS
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.replay.row_decoder import Arrival, RowDecoder
from bakehouse_learner.replay.tail import Added, Tail
from bakehouse_schemas.application.application import Application

log = logging.getLogger(__name__)


class Rebuilt(NamedTuple):
    """A ring of the newest decisions, and the table version that it holds."""

    ring: Ring
    version: int


class Newest(NamedTuple):
    """Rows of the newest decisions, in the order of the decisions."""

    rows: list[Arrival]
    version: int  # of the table; −1: there is none yet
    left_out_ms: int  # decisions received up to then exist and are left out; −1: none are


def rebuild(table: str, application: Application, decoder: RowDecoder) -> Rebuilt:
    """The newest decisions of the table, folded; an empty ring where there is no table yet.

    Hours are read from the newest back until the buffer is full. Within them the ring folds the
    rows, as it does when they come one by one.
    """
    ring = Ring(application)
    found = newest_rows(table, application, decoder.decode, most=ring.capacity)
    ring.forget_before(found.left_out_ms)
    ring.ingest(found.rows)
    log.info(
        "read %d decisions of version %d from the table",
        ring.size,
        found.version,
        extra={"application": application.name},
    )
    return Rebuilt(ring, found.version)


def newest_rows(
    table: str,
    application: Application,
    decode: Callable[[pa.Table], list[Arrival]],
    *,
    most: int,
) -> Newest:
    """Every row of the `most` newest decisions in the table.

    Args:
        decode: see `bakehouse_learner.replay.row_decoder.RowDecoder.decode`; is given
            `bakehouse_learner.replay.arrow_columns.COLUMNS`.
    """
    try:
        opened = DeltaTable(table)
    except TableNotFoundError:
        return Newest([], -1, -1)
    version = int(opened.version())
    by_hour: dict[int, list[Added]] = {}
    actions = pa.table(opened.get_add_actions(flatten=True))
    for path, name, hour in zip(
        actions.column("path").to_pylist(),
        actions.column("partition.application").to_pylist(),
        actions.column("partition.hour").to_pylist(),
        strict=True,
    ):
        if name == application.name:
            by_hour.setdefault(int(hour), []).append(Added(path, int(hour)))
    tail = Tail(table, application.name)
    rows: list[Arrival] = []
    received: dict[str, int] = {}  # decision_id → broker time
    left_out = False
    for hour in sorted(by_hour, reverse=True):
        if len(received) >= most:
            left_out = True
            break
        for added in by_hour[hour]:
            for arrival in decode(tail.read(added, COLUMNS)):
                rows.append(arrival)
                known = received.get(arrival.decision_id, arrival.known.received_at_ms)
                received[arrival.decision_id] = min(known, arrival.known.received_at_ms)
    newest = sorted(received, key=lambda decision_id: (received[decision_id], decision_id))
    kept = set(newest[-most:])
    left_out_ms = -1
    if kept and (left_out or len(kept) < len(received)):
        left_out_ms = min(received[decision_id] for decision_id in kept) - 1
    rows = [row for row in rows if row.decision_id in kept]
    rows.sort(key=lambda row: (received[row.decision_id], row.decision_id, row.known.positions))
    return Newest(rows, version, left_out_ms)
