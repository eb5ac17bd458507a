"""What the Delta tables hold of one decision: one partition is looked at, and in it only the files
that may hold its id.

A UUIDv7 names its partition. Any other id is searched for first, in the decision_id column alone
and the newest hour first; so far back as the tables are kept, and no further than where it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from pyarrow import fs

from bakehouse_schemas.ids import own_hour
from bakehouse_schemas.replay.fold import Row, fold_rows
from bakehouse_schemas.replay.tables import DECISION, LEDGER, PARTITIONED_BY, REPLAY
from bakehouse_serving.explain.explanation import RecordedDecision

# columns whose content is JSON text
_JSON = (
    "context",
    "items",
    "eligible_actions",
    "action",
    "action_probabilities",
    "density",
    "baseline_action",
    "exploration",
    "extra",
)
_REFUSED_SHOWN = 3


class Tables:
    """Reads `replay`, `outcomes` and `quarantine`; for one thread.

    Args:
        address: of the folder that holds them, on a disk or in an object store.
    """

    def __init__(self, address: str) -> None:
        self._tables = {
            name: _Table(f"{address.rstrip('/')}/{name}", PARTITIONED_BY[name])
            for name in ("replay", "outcomes", "quarantine")
        }

    def find(self, application: str, decision_id: str) -> RecordedDecision | None:
        """The decision and what came of it; None where no table holds it yet."""
        rows = self._rows("replay", application, decision_id, list(REPLAY), own_hour(decision_id))
        if not rows:
            return None
        row = fold_rows(rows)[application, decision_id]
        ledger = self._outcomes(application, decision_id, row["hour"])
        return recorded_decision(row, ledger)

    def newest(self, application: str, most: int) -> list[dict[str, Any]]:
        """`context`, `action` and `items` of an application's newest decisions, as JSON carries
        them; a decision that something came of may be among them twice."""
        rows = self._tables["replay"].newest(application, most, ["context", "action", "items"])
        return [
            {name: None if text is None else orjson.loads(text) for name, text in row.items()}
            for row in rows
        ]

    def outcomes(self, application: str, decision_id: str) -> list[dict[str, Any]]:
        """Its outcomes as the ledger has them, each once, joined with a decision or not."""
        return self._outcomes(application, decision_id, own_hour(decision_id))

    def _outcomes(
        self, application: str, decision_id: str, hour: int | None
    ) -> list[dict[str, Any]]:
        rows = self._rows("outcomes", application, decision_id, list(LEDGER), hour)
        by_id = {}
        for row in sorted(rows, key=lambda row: -_received(row)):  # the earliest copy wins
            by_id[row["outcome_id"]] = _outcome(row)
        return [by_id[outcome_id] for outcome_id in sorted(by_id)]

    def elsewhere(self, decision_id: str) -> list[str]:
        """Applications that have made a decision of this id."""
        columns = ["application", "decision_id"]
        rows = self._rows("replay", None, decision_id, columns, own_hour(decision_id))
        return sorted({row["application"] for row in rows})

    def refused(self, decision_id: str) -> list[str]:
        """Why records with this key are in quarantine."""
        rows = self._tables["quarantine"].rows([("key", decision_id)], {}, ["key", "reason"])
        return [row["reason"] for row in rows][:_REFUSED_SHOWN]

    def _rows(
        self,
        table: str,
        application: str | None,
        decision_id: str,
        columns: Sequence[str],
        hour: int | None,
    ) -> list[dict[str, Any]]:
        partition: dict[str, Any] = {} if application is None else {"application": application}
        wanted = [("decision_id", decision_id)]
        if hour is None:
            hour = self._tables[table].newest_hour(decision_id, partition)
            if hour is None:
                return []
        partition["hour"] = hour
        return self._tables[table].rows(wanted, partition, columns)


def recorded_decision(row: Row, ledger: Sequence[Mapping[str, Any]] = ()) -> RecordedDecision:
    """A folded row of the table `replay`.

    Args:
        ledger: outcomes as `Tables.outcomes` gives them, joined with the decision or not yet.
    """
    known = {one["outcome_id"] for one in row["outcomes"]}
    return RecordedDecision(
        decision=_decision(row),
        outcomes=[_outcome(one) for one in row["outcomes"]],
        waiting=[one for one in ledger if one["outcome_id"] not in known],
        received_at_ms=row["positions"][0]["received_at_ms"],
        contested=row["contested"],
    )


class _Table:
    """One table, which need not exist yet."""

    def __init__(self, uri: str, partitioned_by: Sequence[str]) -> None:
        self._uri = uri
        self._partitioned_by = partitioned_by
        self._delta: DeltaTable | None = None
        self._files: fs.FileSystem | None = None
        self._searched: tuple[Any, set[str]] = (None, set())  # an id, and files that lack it

    def newest_hour(self, decision_id: str, partition: Mapping[str, Any]) -> int | None:
        """The newest hour that holds a row of this id; None where none does."""
        try:
            return self._newest_hour(decision_id, partition)
        except FileNotFoundError:  # as in `rows`
            self._delta = None
            return self._newest_hour(decision_id, partition)

    def _newest_hour(self, decision_id: str, partition: Mapping[str, Any]) -> int | None:
        asked = (decision_id, partition.get("application"))
        if self._searched[0] != asked:
            self._searched = (asked, set())
        lacking = self._searched[1]  # one that is waited for is looked for in new files alone
        wanted = [("decision_id", decision_id)]
        files = self._that_may_hold(wanted, partition)
        for add in sorted(files, key=lambda add: -int(add["partition.hour"])):
            if add["path"] in lacking:
                continue
            if self._read(add, wanted, ["decision_id"]):
                return int(add["partition.hour"])
            lacking.add(add["path"])
        return None

    def rows(
        self,
        wanted: Sequence[tuple[str, str]],
        partition: Mapping[str, Any],
        columns: Sequence[str],
    ) -> list[dict[str, Any]]:
        """Rows in which these columns have these texts, newest version of the table."""
        try:
            return self._rows(wanted, partition, columns)
        except FileNotFoundError:  # compacted and vacuumed since it was listed: once more, anew
            self._delta = None
            return self._rows(wanted, partition, columns)

    def newest(self, application: str, most: int, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Rows of the newest files of an application, at least `most` where there are as many."""
        listed = self._listed()
        if listed is None:
            return []
        of = pc.equal(listed.column("partition.application"), application)
        adds = listed.filter(of).sort_by("modification_time").to_pylist()
        found: list[dict[str, Any]] = []
        for add in reversed(adds):
            found += [{name: row[name] for name in columns} for row in self._read(add, (), columns)]
            if len(found) >= most:
                break
        return found[:most]

    def _listed(self) -> pa.Table | None:
        """The files of the newest version of the table; None where there is none yet."""
        if self._delta is None:
            try:
                self._delta = DeltaTable(self._uri)
            except TableNotFoundError:
                return None
            self._files = fs.PyFileSystem(DeltaStorageHandler.from_table(self._delta._table))
        else:
            self._delta.update_incremental()
        return pa.table(self._delta.get_add_actions(flatten=True))

    def _rows(
        self,
        wanted: Sequence[tuple[str, str]],
        partition: Mapping[str, Any],
        columns: Sequence[str],
    ) -> list[dict[str, Any]]:
        files = self._that_may_hold(wanted, partition)
        return [row for add in files for row in self._read(add, wanted, columns)]

    def _that_may_hold(
        self, wanted: Sequence[tuple[str, str]], partition: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Files of this partition that may hold these texts, newest version of the table."""
        listed = self._listed()
        if listed is None:
            return []
        for name, value in partition.items():
            column = listed.column(f"partition.{name}")
            listed = listed.filter(pc.equal(column, pa.scalar(value, column.type)))
        for name, text in wanted:
            if f"min.{name}" in listed.column_names:
                low, high = listed.column(f"min.{name}"), listed.column(f"max.{name}")
                may = pc.and_(pc.less_equal(low, text), pc.greater_equal(high, text))
                listed = listed.filter(pc.fill_null(may, True))
        found: list[dict[str, Any]] = listed.to_pylist()
        return found

    def _read(
        self, add: Mapping[str, Any], wanted: Sequence[tuple[str, str]], columns: Sequence[str]
    ) -> list[dict[str, Any]]:
        assert self._files is not None
        values = {name: add[f"partition.{name}"] for name in self._partitioned_by}
        stored = [name for name in columns if name not in values]
        # what an earlier release wrote lacks columns of this one
        known = set(pq.read_schema(add["path"], filesystem=self._files).names)
        read = pq.read_table(
            add["path"],
            filesystem=self._files,
            columns=[name for name in stored if name in known],
            filters=[(name, "=", text) for name, text in wanted] or None,
            partitioning=None,
        )
        missing = dict.fromkeys(name for name in stored if name not in known)
        return [row | missing | values for row in read.to_pylist()]


def _received(row: Mapping[str, Any]) -> int:
    return min(int(position["received_at_ms"]) for position in row["positions"])


def _decision(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record of `decisions.v1`, those that it has."""
    decision = {}
    for name in DECISION:
        value = row[name]
        if value is not None:
            decision[name] = orjson.loads(value) if name in _JSON else value
    return decision


def _outcome(row: Mapping[str, Any]) -> dict[str, Any]:
    executed = row["executed_action"]
    return {
        "outcome_id": row["outcome_id"],
        "kind": row["kind"],
        "name": row["name"],
        "value": row["value"],
        "executed_action": None if executed is None else orjson.loads(executed),
        "next_decision_id": row["next_decision_id"],
        "occurred_at_ms": row["occurred_at_ms"],
        "received_at_ms": _received(row),
        "copies": len(row["positions"]),
        # null, and absent in what an earlier release wrote, where the record had no other fields
        "extra": None if (extra := row.get("extra")) is None else orjson.loads(extra),
    }
