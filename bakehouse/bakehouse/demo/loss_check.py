"""What was promised, held against the tables: nothing that was acknowledged may be missing.

Counted after everything has stopped, from the tables themselves, with none of the parts' own
figures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakehouse_schemas.replay.fold import Row, fold_rows

DECISION_COLUMNS = [
    "application",
    "decision_id",
    "decided_at_ms",
    "context",
    "eligible_actions",
    "items",
    "action",
    "propensity",
    "action_probabilities",
    "exploration",
    "policy_version",
    "cohort",
    "positions",
    "contested",
]


@dataclass(frozen=True)
class LossReport:
    """What became of all that was acknowledged."""

    lost_decisions: list[str]
    lost_outcomes: list[str]  # neither in the replay table nor in the ledger
    unjoined_outcomes: list[str]  # in the ledger, not (yet) with their decision
    quarantined: dict[str, int]  # reason → acknowledged decisions and outcomes set aside for it

    @property
    def lost(self) -> int:
        return len(self.lost_decisions) + len(self.lost_outcomes)


def check_loss(
    tables: Path, application: str, *, decisions: Iterable[str], outcomes: Iterable[str]
) -> LossReport:
    """Compare acknowledged ids with the tables in the folder `tables`.

    The fold keeps every decision and unites outcomes by their id, so an id is in the folded table
    just if it is in some row of it.
    """
    promised, happened = set(decisions), set(outcomes)
    for rows in _batches(tables / "replay", application, ["decision_id", "outcomes"]):
        promised.difference_update(rows["decision_id"].to_pylist())
        happened.difference_update(_nested_ids(rows["outcomes"]))
    ledger: set[str] = set()
    for rows in _batches(tables / "outcomes", application, ["outcome_id"]):
        ledger.update(rows["outcome_id"].to_pylist())
    unjoined = happened & ledger
    happened -= ledger
    quarantined: dict[str, int] = {}
    if promised or happened:
        for row in _quarantine(tables / "quarantine"):
            ids = {row.get("decision_id"), row.get("outcome_id")} & (promised | happened)
            if ids:
                quarantined[row["reason"]] = quarantined.get(row["reason"], 0) + len(ids)
                promised -= ids
                happened -= ids
    return LossReport(sorted(promised), sorted(happened), sorted(unjoined), quarantined)


def folded_decisions(tables: Path, application: str) -> list[Row]:
    """The decisions of the folded replay table, without their outcomes."""
    rows: list[Row] = []
    for batch in _batches(tables / "replay", application, DECISION_COLUMNS):
        rows += batch.to_pylist()
    # the same decision stands in many rows: equal copies need no fold, and it is slow
    unique = {_copy_key(row): row | {"outcomes": []} for row in rows}
    return list(fold_rows(unique.values()).values())


def _copy_key(row: Row) -> tuple[str, str, str, float, str]:
    return (
        row["decision_id"],
        row["action"],
        row["context"],
        row["propensity"],
        repr(row["positions"]),
    )


def _batches(table: Path, application: str, columns: list[str]) -> Iterator[Any]:
    """Record batches of one application's rows; none where there is no table."""
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        delta = DeltaTable(str(table))
    except TableNotFoundError:
        return
    import pyarrow.dataset as ds

    dataset = delta.to_pyarrow_dataset()
    yield from dataset.to_batches(columns=columns, filter=ds.field("application") == application)


def _nested_ids(outcomes: Any) -> list[str]:
    import pyarrow.compute as pc

    ids: list[str] = pc.struct_field(pc.list_flatten(outcomes), "outcome_id").to_pylist()
    return ids


def _quarantine(table: Path) -> Iterator[dict[str, Any]]:
    """Ids and reason of every record set aside, as far as they can be read."""
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        rows = DeltaTable(str(table)).to_pyarrow_table(columns=["value", "reason"]).to_pylist()
    except TableNotFoundError:
        return
    for row in rows:
        try:
            value = json.loads(row["value"])
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value | {"reason": row["reason"]}
