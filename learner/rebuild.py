"""Fills a ring from the table itself, where its log does not reach back far enough."""

from __future__ import annotations

import logging
from typing import NamedTuple

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from learner.ring import Ring
from learner.rows import COLUMNS, Arrival, Decoder
from learner.tail import Added, Tail
from schemas.application import Application

log = logging.getLogger(__name__)


class Rebuilt(NamedTuple):
    """A ring of the newest decisions, and the table version that it holds."""

    ring: Ring
    version: int


def rebuild(table: str, application: Application, decoder: Decoder) -> Rebuilt:
    """The newest decisions of the table, folded; an empty ring where there is no table yet.

    Hours are read from the newest back until the buffer is full. Within them the ring folds the
    rows, as it does when they come one by one.
    """
    ring = Ring(application)
    try:
        opened = DeltaTable(table)
    except TableNotFoundError:
        return Rebuilt(ring, -1)
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
        if len(received) >= ring.capacity:
            left_out = True
            break
        for added in by_hour[hour]:
            for arrival in decoder.decode(tail.read(added, COLUMNS)):
                rows.append(arrival)
                known = received.get(arrival.decision_id, arrival.known.received_at_ms)
                received[arrival.decision_id] = min(known, arrival.known.received_at_ms)
    newest = sorted(received, key=lambda decision_id: (received[decision_id], decision_id))
    kept = set(newest[-ring.capacity :])
    if kept and (left_out or len(kept) < len(received)):
        ring.forget_before(min(received[decision_id] for decision_id in kept) - 1)
    rows = [row for row in rows if row.decision_id in kept]
    rows.sort(key=lambda row: (received[row.decision_id], row.decision_id, row.known.positions))
    ring.ingest(rows)
    log.info("read %d decisions of version %d from the table", ring.size, version)
    return Rebuilt(ring, version)
