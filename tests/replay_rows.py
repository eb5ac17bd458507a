"""Rows of the table `replay`, made by hand, and a table to append them to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from bakehouse_learner.offline.history.columns import REPLAY_SCHEMA
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.ids import uuid7, uuid7_hour
from bakehouse_schemas.replay.tables import PARTITIONED_BY, REPLAY

T0 = 1_790_000_000_000  # a time at which the tests begin, in milliseconds


class Offsets:
    """Kafka positions, one after another."""

    def __init__(self) -> None:
        self._next = 0

    def at(self, received_at_ms: int, topic: str = "bakehouse.decisions.v1") -> dict[str, Any]:
        self._next += 1
        return {
            "received_at_ms": received_at_ms,
            "topic": topic,
            "partition": 0,
            "offset": self._next,
        }


OFFSETS = Offsets()


def decision(
    application: Application,
    context: dict[str, Any],
    action: str,
    *,
    at_ms: int = T0,
    propensity: float = 0.5,
    baseline: str | None = None,
    cohort: str = "policy",
    decision_id: str | None = None,
    previous: str | None = None,
    policy_version: int = 0,
    **changes: Any,
) -> dict[str, Any]:
    """One decision without outcomes, received when it was decided."""
    decision_id = decision_id or uuid7(at_ms)
    observation = application.encoder.encode(context)
    row: dict[str, Any] = dict.fromkeys(REPLAY) | {
        "application": application.name,
        "hour": uuid7_hour(decision_id),
        "decision_id": decision_id,
        "contract": application.contract,
        "subject_id": "somebody",
        "previous_decision_id": previous,
        "decided_at_ms": at_ms,
        "context": json.dumps(context, sort_keys=True),
        "observation": observation.tolist(),
        "action": json.dumps(action),
        "propensity": propensity,
        "baseline_action": json.dumps(baseline or application.baseline_action(context)),
        "policy_version": policy_version,
        "exploration": json.dumps({"kind": "epsilon_greedy", "epsilon": 0.5, "floor": 0.01}),
        "mode": "online",
        "cohort": cohort,
        "explored": False,
        "outcomes": [],
        "received_at": at_ms * 1000,
        "positions": [OFFSETS.at(at_ms)],
        "contested": False,
    }
    return row | changes


def outcome(
    of: dict[str, Any],
    name: str | None = None,
    *,
    after_ms: int,
    kind: str = "reward",
    value: float | None = None,
    outcome_id: str | None = None,
    received_after_ms: int | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """The row of a decision that its outcome arrived with."""
    received = of["decided_at_ms"] + (after_ms if received_after_ms is None else received_after_ms)
    made: dict[str, Any] = {
        "outcome_id": outcome_id or f"{of['decision_id']}:{kind}:{name}",
        "kind": kind,
        "name": name,
        "value": value,
        "executed_action": None,
        "payload": None,
        "next_decision_id": None,
        "next_observation": None,
        "next_context": None,
        "next_eligible_actions": None,
        "occurred_at_ms": of["decided_at_ms"] + after_ms,
        "received_at": received * 1000,
        "positions": [OFFSETS.at(received, "bakehouse.outcomes.v1")],
    }
    return of | {"outcomes": [made | changes]}


def following(of: dict[str, Any], successor: dict[str, Any]) -> dict[str, Any]:
    """The row of a decision that its successor arrived with."""
    return outcome(
        of,
        after_ms=successor["decided_at_ms"] - of["decided_at_ms"],
        kind="next",
        outcome_id=f"next:{successor['decision_id']}",
        next_decision_id=successor["decision_id"],
        next_observation=successor["observation"],
        next_context=successor["context"],
        next_eligible_actions=successor["eligible_actions"],
    )


def arrow(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=REPLAY_SCHEMA)


class Table:
    """A Delta table of replay rows under `<folder>/replay`."""

    def __init__(self, tables: Path) -> None:
        self.path = tables / "replay"
        self.version = -1

    def append(self, rows: Iterable[dict[str, Any]]) -> int:
        """One commit; returns its version."""
        write_deltalake(
            str(self.path),
            arrow(list(rows)),
            mode="append",
            partition_by=PARTITIONED_BY["replay"],
        )
        self.version += 1
        return self.version


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)
