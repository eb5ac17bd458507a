"""What became of every Kafka position that was consumed.

Each is exactly one of: applied, duplicate, pending, orphan, quarantined; or it holds no record
(`stream/bakehouse_stream/kafka/gaps.py` counts those). `received` is counted from offsets alone, so
`received = applied + duplicate + pending + orphan + quarantined + no_record` can fail, and fails
where a row is missing.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from bakehouse_schemas.events.fields import DAY_MS
from bakehouse_stream.kafka.sources import Offsets

REPLAY_COLUMNS = ["application", "decision_id", "positions", "outcomes"]
LEDGER_COLUMNS = ["application", "decision_id", "outcome_id", "kind", "positions"]
QUARANTINE_COLUMNS = ["received_at_ms", "topic", "partition", "offset"]
_PLACE = ["topic", "partition", "offset"]
_OUTCOME = ["application", "decision_id", "outcome_id"]


class Account(NamedTuple):
    """Positions by what became of them."""

    applied: int = 0
    duplicate: int = 0
    pending: int = 0  # its decision has not come, and may within a day
    orphan: int = 0  # its decision has not come within a day
    quarantined: int = 0

    def __add__(self, other: Account) -> Account:  # type: ignore[override]
        return Account(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def total(self) -> int:
        """How many positions are accounted for."""
        return sum(self)


def received(first: Offsets, until: Offsets) -> int:
    """How many positions lie between two sets of offsets; a partition not in `first` began at 0."""
    return sum(
        end - first.get(topic, {}).get(partition, 0)
        for topic, partitions in until.items()
        for partition, end in partitions.items()
    )


def account(
    replay: pa.Table,
    ledger: pa.Table,
    quarantine: pa.Table,
    *,
    until: Offsets,
    stream_time_ms: int,
) -> Account:
    """Account for all positions before `until` that these rows hold.

    Rows may be those of one partition (application, hour) of `replay` and `outcomes`: a decision
    and its outcomes are always in the same one. Repeated rows count once. A row read elsewhere
    (`next`, made of a decision) is not counted: it was not received.
    """
    decisions = _before(_exploded(replay, ["application", "decision_id"]), until)
    decisions = decisions.group_by(_PLACE).aggregate(
        [("application", "min"), ("decision_id", "min")]
    )
    firsts = decisions.group_by(["application_min", "decision_id_min"]).aggregate([])
    told = ledger.filter(pc.not_equal(ledger.column("kind"), "next"))
    outcomes = _before(_exploded(told, _OUTCOME), until)
    outcomes = outcomes.group_by([*_OUTCOME, *_PLACE]).aggregate([("received_at_ms", "min")])
    known = _known_outcomes(replay)
    matched = outcomes.join(known, _OUTCOME, join_type="left semi")
    waiting = outcomes.join(known, _OUTCOME, join_type="left anti")
    since = pc.subtract(stream_time_ms, waiting.column("received_at_ms_min"))
    orphans = int(pc.sum(pc.greater(since, DAY_MS)).as_py() or 0)
    applied_outcomes = matched.group_by(_OUTCOME).aggregate([]).num_rows
    refused = _before(quarantine, until).group_by(_PLACE).aggregate([])
    return Account(
        applied=firsts.num_rows + applied_outcomes,
        duplicate=decisions.num_rows - firsts.num_rows + matched.num_rows - applied_outcomes,
        pending=waiting.num_rows - orphans,
        orphan=orphans,
        quarantined=refused.num_rows,
    )


def _exploded(rows: pa.Table, columns: list[str]) -> pa.Table:
    """One row for each position: `columns`, `received_at_ms, topic, partition, offset`."""
    positions = rows.column("positions").combine_chunks()
    parents = pc.list_parent_indices(positions)
    flat = pa.Table.from_struct_array(pc.list_flatten(positions))
    taken = rows.select(columns).take(parents)
    for name in columns:
        flat = flat.append_column(name, taken.column(name))
    return flat


def _known_outcomes(replay: pa.Table) -> pa.Table:
    """`application, decision_id, outcome_id` of every outcome that replay holds, each once."""
    outcomes = replay.column("outcomes").combine_chunks()
    parents = pc.list_parent_indices(outcomes)
    taken = replay.select(["application", "decision_id"]).take(parents)
    ids = pc.struct_field(pc.list_flatten(outcomes), "outcome_id")
    return taken.append_column("outcome_id", ids).group_by(_OUTCOME).aggregate([])


def _before(rows: pa.Table, until: Offsets) -> pa.Table:
    """Only the rows whose position comes before `until`."""
    keep = pa.array([False] * rows.num_rows) if rows.num_rows else pa.array([], pa.bool_())
    for topic, partitions in until.items():
        for partition, end in partitions.items():
            here = pc.and_(
                pc.equal(rows.column("topic"), topic),
                pc.equal(rows.column("partition"), int(partition)),
            )
            keep = pc.or_(keep, pc.and_(here, pc.less(rows.column("offset"), end)))
    return rows.filter(keep)
