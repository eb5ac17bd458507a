"""Kafka records as checked rows, or the reason why not: one rule for HTTP and Kafka.

The checks are `bakehouse_schemas.events.records`; here records become the columns of
`schemas/bakehouse_schemas/replay/tables.py`. The functions that take and give Arrow batches run
inside Spark's Python workers (`mapInArrow`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.contracts.contract import Contract, read_contract
from bakehouse_schemas.contracts.known import KnownContracts as Registry
from bakehouse_schemas.errors import InvalidEvent
from bakehouse_schemas.events.events import Decision, Outcome
from bakehouse_schemas.events.records import read_decision, read_outcome
from bakehouse_schemas.ids import own_hour
from bakehouse_schemas.loading import load_applications
from bakehouse_stream.columns import arrow_schema

KnownContracts = Mapping[str, Collection[Contract]]

QUARANTINE_BYTES = 64 << 10
Row = dict[str, Any]
Batches = Iterator[pa.RecordBatch]


class Record(NamedTuple):
    """One Kafka record; `received_at_ms` is the broker's time."""

    topic: str
    partition: int
    offset: int
    received_at_ms: int
    key: bytes | None
    value: bytes | None

    @property
    def position(self) -> Row:
        return {
            "received_at_ms": self.received_at_ms,
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
        }


def as_json(value: Any) -> str | None:
    """Canonical JSON text (sorted keys, no spaces); None stays None."""
    return None if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def decision_row(decision: Decision, record: Record) -> Row:
    """A row of `replay`: the decision, and no outcomes.

    Its hour is None where the id does not say it (`stream/bakehouse_stream/tables/text_ids.py`).
    """
    exploration = decision.exploration
    return {
        "application": decision.application,
        "hour": own_hour(decision.decision_id),
        "decision_id": decision.decision_id,
        "contract": decision.contract,
        "subject_id": decision.subject_id,
        "episode_id": decision.episode_id,
        "previous_decision_id": decision.previous_decision_id,
        "decided_at_ms": decision.decided_at_ms,
        "context": as_json(decision.context),
        "observation": decision.observation,
        "items": as_json(decision.items),
        "eligible_actions": as_json(decision.eligible_actions),
        "action": as_json(decision.action),
        "propensity": decision.propensity,
        "action_probabilities": as_json(decision.action_probabilities),
        "density": as_json(decision.density),
        "baseline_action": as_json(decision.baseline_action),
        "policy_version": decision.policy_version,
        "exploration": as_json(exploration.logged() if exploration else None),
        "draw": decision.draw,
        "mode": decision.mode,
        "cohort": decision.cohort,
        "explored": decision.explored,
        "extra": as_json(decision.unknown),
        "outcomes": [],
        "received_at": record.received_at_ms * 1000,
        "positions": [record.position],
        "contested": False,
    }


def outcome_row(outcome: Outcome, record: Record) -> Row:
    """An entry of a replay row's `outcomes`."""
    return {
        "outcome_id": outcome.outcome_id,
        "kind": outcome.kind,
        "name": outcome.name,
        "value": outcome.value,
        "executed_action": as_json(outcome.executed_action),
        "payload": as_json(outcome.payload),
        "next_decision_id": None,
        "next_observation": None,
        "next_context": None,
        "next_eligible_actions": None,
        "occurred_at_ms": outcome.occurred_at_ms,
        "received_at": record.received_at_ms * 1000,
        "positions": [record.position],
        "extra": as_json(outcome.unknown),
    }


def next_row(decision: Decision, record: Record) -> Row:
    """What a decision is to its predecessor: an entry of that one's `outcomes`."""
    return {
        "outcome_id": f"next:{decision.decision_id}",
        "kind": "next",
        "name": None,
        "value": None,
        "executed_action": None,
        "payload": None,
        "next_decision_id": decision.decision_id,
        "next_observation": decision.observation,
        "next_context": as_json(decision.context),
        "next_eligible_actions": as_json(decision.eligible_actions),
        "occurred_at_ms": decision.decided_at_ms,
        "received_at": record.received_at_ms * 1000,
        "positions": [record.position],
        "extra": None,  # the decision's own row has it
    }


def quarantine_row(record: Record, refusal: InvalidEvent) -> Row:
    """A row of `quarantine`: the record as it came, with the reason; whole where it waits."""
    whole = refusal.waits is not None  # then it is JSON, so UTF-8 too
    return {
        **record.position,
        "key": _text(record.key),
        "value": _text(record.value, None if whole else QUARANTINE_BYTES),
        "reason": str(refusal),
        "waits": refusal.waits,
    }


def _text(value: bytes | None, most: int | None = QUARANTINE_BYTES) -> str | None:
    return None if value is None else value[:most].decode(errors="replace")


class Decoder:
    """Checks records against the applications of this stack.

    Args:
        known: by application, the contracts that this home has known of it.
    """

    def __init__(
        self,
        applications: Mapping[str, Application],
        decisions_topic: str,
        *,
        known: KnownContracts | None = None,
    ) -> None:
        self.applications = applications
        self.decisions_topic = decisions_topic
        self._known = known or {}

    def decision(self, record: Record) -> Decision:
        """The decision in `record`. Raises InvalidEvent."""
        if record.value is None:
            raise InvalidEvent("the record has no value; expected a JSON object")
        return read_decision(record.value, self.applications, received_at_ms=record.received_at_ms)

    def outcome(self, record: Record) -> tuple[str, str, Row]:
        """Application, decision and entry of an outcome, of either topic. Raises InvalidEvent.

        A decision is an outcome (`next`) of the one before it.
        """
        if record.topic == self.decisions_topic:
            decision = self.decision(record)
            if decision.previous_decision_id is None:
                raise InvalidEvent("previous_decision_id: missing")
            return decision.application, decision.previous_decision_id, next_row(decision, record)
        if record.value is None:
            raise InvalidEvent("the record has no value; expected a JSON object")
        outcome = read_outcome(record.value, self.applications, known=self._known)
        return outcome.application, outcome.decision_id, outcome_row(outcome, record)

    def single(self, record: Record) -> list[Row]:
        """What a record by itself adds to the tables."""
        try:
            if record.topic != self.decisions_topic:
                return [{"outcome": _ledger_row(*self.outcome(record))}]
            decision = self.decision(record)
        except InvalidEvent as refusal:
            return [{"quarantined": quarantine_row(record, refusal)}]
        rows: list[Row] = [{"replay": decision_row(decision, record)}]
        if (previous := decision.previous_decision_id) is not None:
            entry = next_row(decision, record)
            rows.append({"outcome": _ledger_row(decision.application, previous, entry)})
        return rows

    def pair(self, decision: Record, outcome: Record) -> list[Row]:
        """The row that a pair out of the join adds to `replay`.

        None where one fails its checks (by itself it was quarantined), or where the pair was
        joined on keys that the checked records do not have.
        """
        try:
            row = decision_row(self.decision(decision), decision)
            application, decision_id, entry = self.outcome(outcome)
        except InvalidEvent:
            return []
        if (application, decision_id) != (row["application"], row["decision_id"]):
            return []
        return [{"replay": row | {"outcomes": [entry]}}]


def _ledger_row(application: str, decision_id: str, entry: Row) -> Row:
    hour = own_hour(decision_id)
    return {"application": application, "hour": hour, "decision_id": decision_id} | entry


# What the decoder yields: each row has exactly one of these.
OUTPUTS = {"replay": "replay", "outcome": "outcomes", "quarantined": "quarantine"}
OUTPUT_SCHEMA = pa.schema(
    [pa.field(name, pa.struct(list(arrow_schema(table)))) for name, table in OUTPUTS.items()]
)


def rows_of(rows: pa.Table, output: str) -> pa.Table:
    """The rows of one output of what the decoder yields, its struct's fields as columns."""
    column = rows.column(output)
    present = column.filter(column.is_valid())
    batches = [pa.RecordBatch.from_struct_array(chunk) for chunk in present.chunks]
    return pa.Table.from_batches(batches, schema=pa.schema(list(column.type)))


def known_contracts(home: Path, names: Iterable[str]) -> dict[str, list[Contract]]:
    """By application, the contracts that a home has known of it."""
    known = Registry(home)
    return {name: list(known.known(name).values()) for name in names}


def decoder(
    refs: list[str], decisions_topic: str, known: KnownContracts | None = None
) -> Callable[[Batches], Batches]:
    """For `mapInArrow`: `record, decision, outcome` in, `replay, outcome, quarantined` out.

    What comes in is a record as it was read, or a pair out of the join; the others are null.
    Applications are loaded inside the worker, once: functions do not travel well.

    Args:
        known: see `Decoder`.
    """
    described = {name: [one.described() for one in of] for name, of in (known or {}).items()}
    text = json.dumps(described, sort_keys=True)

    def decode(batches: Batches) -> Batches:
        found = _decoder(refs, decisions_topic, text)
        for batch in batches:
            columns = (_records(batch, name) for name in ("record", "decision", "outcome"))
            rows: list[Row] = []
            for record, decision, outcome in zip(*columns, strict=True):
                if record is not None:
                    rows += found.single(record)
                elif decision is not None and outcome is not None:
                    rows += found.pair(decision, outcome)
            yield pa.RecordBatch.from_pylist(rows, schema=OUTPUT_SCHEMA)

    return decode


_DECODERS: dict[tuple[str, ...], Decoder] = {}


def _decoder(refs: list[str], decisions_topic: str, described: str) -> Decoder:
    key = (decisions_topic, described, *refs)
    if key not in _DECODERS:
        applications = {name: one.application for name, one in load_applications(refs).items()}
        known = {
            name: [read_contract(one) for one in of] for name, of in json.loads(described).items()
        }
        _DECODERS[key] = Decoder(applications, decisions_topic, known=known)
    return _DECODERS[key]


def _records(batch: pa.RecordBatch, prefix: str) -> Iterator[Record | None]:
    """Records out of the struct column `prefix`; None where it is null."""
    column = batch.column(batch.schema.get_field_index(prefix))
    fields = [column.field(name).to_pylist() for name in Record._fields]
    for present, values in zip(
        column.is_valid().to_pylist(), zip(*fields, strict=True), strict=True
    ):
        yield Record(*values) if present else None
