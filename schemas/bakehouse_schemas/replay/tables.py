"""The columns of the tables `replay`, `outcomes` and `quarantine`, in words before code.

**replay**: a row is one decision plus the outcomes that this row knows of; partitioned by
`application, hour`. The fold of all its rows (`schemas/bakehouse_schemas/replay/fold.py`) is the
truth. **outcomes**: the ledger; a row is one outcome as it was read, one Kafka position each.
**quarantine**: a row is one Kafka record that failed its checks, as it came, with the reason.

Releases add columns, here and inside `outcomes`, and never take one away or change its type: what
was written before has null there, and a table may have columns that this release does not know.
A new one stands last in its struct.

Shapes that differ by application (context, action, …) are canonical JSON text: sorted keys,
no spaces. `stream/bakehouse_stream/columns.py` alone translates these types for Spark.
"""

from __future__ import annotations

from collections.abc import Mapping

LogicalType = str | list["LogicalType"] | dict[str, "LogicalType"]  # [T]: array, {…}: struct

POSITION: dict[str, LogicalType] = {
    "received_at_ms": "long",  # the broker's LogAppendTime
    "topic": "string",
    "partition": "int",
    "offset": "long",
}

# What an outcome says. `next` (the successor of a decision in its episode) is made by stream.
OUTCOME: dict[str, LogicalType] = {
    "outcome_id": "string",
    "kind": "string",  # reward, executed, activated, end, next
    "name": "string",
    "value": "double",
    "executed_action": "string",  # JSON
    "payload": "string",  # JSON
    "next_decision_id": "string",
    "next_observation": ["float"],
    "next_context": "string",  # JSON
    "next_eligible_actions": "string",  # JSON list of labels
    "occurred_at_ms": "long",  # the client's clock; of `next`, the successor's decided_at_ms
    "received_at": "timestamp",
    "positions": [POSITION],
    "extra": "string",  # JSON object of the record's fields that stream did not know; null: none
}

DECISION: dict[str, LogicalType] = {
    "application": "string",
    # hours since 1970 UTC: the one inside a UUIDv7 (bakehouse_schemas.ids.own_hour); of any other
    # decision_id that in which the first event that names it arrived
    "hour": "long",
    "decision_id": "string",
    "contract": "string",
    "subject_id": "string",
    "episode_id": "string",
    "previous_decision_id": "string",
    "decided_at_ms": "long",  # the client's clock
    "context": "string",  # JSON
    "observation": ["float"],
    "items": "string",  # JSON
    "eligible_actions": "string",  # JSON list of labels; null: all
    "action": "string",  # JSON
    "propensity": "double",
    "action_probabilities": "string",  # JSON object by label
    "density": "string",  # JSON
    "baseline_action": "string",  # JSON
    "policy_version": "long",
    "exploration": "string",  # JSON
    "draw": "double",
    "mode": "string",
    "cohort": "string",
    "explored": "boolean",
    "extra": "string",  # as an outcome's
}

REPLAY: dict[str, LogicalType] = {
    **DECISION,
    "outcomes": [OUTCOME],
    "received_at": "timestamp",  # of the earliest copy of the decision
    "positions": [POSITION],  # where the decision was read
    "contested": "boolean",
}

# The ledger's row is an outcome with its decision's address; `positions` holds exactly one.
LEDGER: dict[str, LogicalType] = {
    "application": "string",
    "hour": "long",
    "decision_id": "string",
    **OUTCOME,
}

QUARANTINE: dict[str, LogicalType] = {
    **POSITION,
    "key": "string",
    # whole where the record waits; else undecodable bytes as replacement characters, at most 64 KiB
    "value": "string",
    "reason": "string",
    # what stream did not know: application, schema, label; it is read again (`bakehouse requeue`)
    # when that may be otherwise. Null: what is simply wrong, and what earlier releases set aside
    "waits": "string",
}

TABLES: Mapping[str, dict[str, LogicalType]] = {
    "replay": REPLAY,
    "outcomes": LEDGER,
    "quarantine": QUARANTINE,
}
PARTITIONED_BY: Mapping[str, list[str]] = {
    "replay": ["application", "hour"],
    "outcomes": ["application", "hour"],
    "quarantine": [],
}
