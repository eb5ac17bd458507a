"""What history is there of an application: its newest decisions, folded, matured and linked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from learner.rebuild import rebuild
from learner.ring import Ring
from learner.rows import Decoder
from schemas.application import Application
from schemas.errors import BakehouseError


class Logged(NamedTuple):
    """A ring of the newest decisions, and what else is known of them."""

    ring: Ring
    contexts: Mapping[str, str]  # JSON, by decision_id; empty unless asked for
    source: str  # in words
    foreign: int  # rows of another contract, passed over
    refused: int  # rows that cannot be encoded, passed over


def read_logged(application: Application, tables: str, *, fields: bool = False) -> Logged:
    """The newest `training.buffer` decisions of the table `replay` in a folder of tables.

    What has matured by the newest broker time that the table knows is marked as matured.

    Args:
        fields: whether contexts are wanted.

    Raises:
        BakehouseError: there is no such table.
    """
    table = f"{tables.rstrip('/')}/replay"
    decoder = Decoder(application)
    rebuilt = rebuild(table, application, decoder)
    if rebuilt.version < 0:
        raise BakehouseError(
            f"there is no table {table}; name the home of a stack that has played with --home, or "
            "another history with --from"
        )
    ring = rebuilt.ring
    close(ring)
    contexts = _contexts(table, application.name) if fields else {}
    return Logged(ring, contexts, table, decoder.foreign, decoder.refused)


def close(ring: Ring) -> None:
    """Mark what had matured, and what had timed out, when the newest row was received."""
    newest_ms = int(np.max(ring.received_at_ms[: ring.size], initial=0))
    for slot in range(ring.size):
        for outcome in ring.known(slot).outcomes:
            newest_ms = max(newest_ms, outcome.received_at_ms)
    ring.mature(newest_ms)
    ring.time_out(newest_ms)


def _contexts(table: str, application: str) -> dict[str, str]:
    rows: pa.Table = DeltaTable(table).to_pyarrow_table(
        columns=["decision_id", "context"], filters=[("application", "=", application)]
    )
    ids, texts = rows.column("decision_id").to_pylist(), rows.column("context").to_pylist()
    return {
        decision_id: text for decision_id, text in zip(ids, texts, strict=True) if text is not None
    }
