"""Spans of stream: from the broker's receipt of a record to the commit that holds its row."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from bakehouse_schemas.process.spans import Tracer
from bakehouse_schemas.process.tracing import JOIN, Span


def joined(rows: pa.Table, tracer: Tracer, *, committed_ns: int, version: int) -> Iterator[Span]:
    """A span for each traced decision of a batch, and for each outcome that met one.

    Args:
        rows: of `replay`, as they were committed: a decision, or a decision with an outcome.
        version: of the table that holds them.
    """
    if rows.num_rows == 0:
        return
    for at, decision_id in enumerate(rows.column("decision_id").to_pylist()):
        if not tracer.is_traced(decision_id):
            continue
        row = rows.slice(at, 1).select(["application", "received_at", "outcomes"]).to_pylist()[0]
        attributes = {
            "application": row["application"],
            "replay_version": version,
            "rows": rows.num_rows,
        }
        found = [(one["received_at"], one["outcome_id"], one["kind"]) for one in row["outcomes"]]
        for received_at, key, kind in found or [(row["received_at"], "", "decision")]:
            yield Span(
                decision_id,
                JOIN,
                _ns(received_at),
                committed_ns,
                attributes | {"kind": kind},
                key=key,
            )


def _ns(received_at: object) -> int:
    """Microseconds since 1970, UTC, as the table's columns hold them."""
    microseconds: int = pa.scalar(received_at).cast(pa.int64()).as_py()
    return microseconds * 1_000
