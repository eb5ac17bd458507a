"""Events of a small game as a game would publish them, and what the tables should make of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from bakehouse_schemas.application.actions import Discrete
from bakehouse_schemas.contracts.known import KnownContracts
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.replay.fold import fold_rows
from bakehouse_stream.columns import arrow_schema
from bakehouse_stream.kafka.decode import Decoder, Record

GAME = str(Path(__file__).parent / "contract" / "stream_game.py")
APPLICATION = load_application(GAME).application


def decision(
    decision_id: str | None = None, *, previous: str | None = None, **changes: Any
) -> dict[str, Any]:
    """A valid record of `decisions.v1`; `changes` replace fields."""
    return {
        "schema": "decision.v1",
        "decision_id": decision_id or uuid7(),
        "application": APPLICATION.name,
        "contract": APPLICATION.contract,
        "subject_id": "anna",
        "decided_at_ms": time.time_ns() // 1_000_000,
        "context": {"skill": 0.5},
        "observation": [0.5],
        "action": "easy",
        "propensity": 0.75,
        "policy_version": 0,
        "cohort": "policy",
        **({"previous_decision_id": previous, "episode_id": "e1"} if previous else {}),
        **changes,
    }


def outcome(decision_id: str, outcome_id: str | None = None, **changes: Any) -> dict[str, Any]:
    """A valid record of `outcomes.v1`; `changes` replace fields."""
    return {
        "schema": "outcome.v1",
        "outcome_id": outcome_id or uuid7(),
        "application": APPLICATION.name,
        "decision_id": decision_id,
        "kind": "reward",
        "name": "won",
        "value": 1.0,
        "occurred_at_ms": time.time_ns() // 1_000_000,
        **changes,
    }


def publish(
    settings: Settings,
    topic: str,
    events: Iterable[dict[str, Any] | bytes | None],
    *,
    at_ms: int | None = None,
    key: bytes = b"k",
) -> None:
    """Send events (as they are, where they are bytes) and wait until the broker has them.

    Args:
        at_ms: when the broker is to say that it has received them, where the topics let it.
    """
    producer = KafkaProducer(bootstrap_servers=settings.kafka_bootstrap)
    for event in events:
        value = orjson.dumps(event) if isinstance(event, dict) else event
        producer.send(settings.topic(topic), key=key, value=value, timestamp_ms=at_ms)
    producer.flush()
    producer.close()


def retired(decision_id: str, label: str) -> dict[str, Any]:
    """What a game did instead, in the words of a contract of before."""
    done = {"kind": "executed", "name": None, "value": None, "executed_action": label}
    return outcome(decision_id, **done)


def remember_label(settings: Settings, label: str) -> None:
    """The home has known a contract of the small game that has this label, too."""
    labels = Discrete(*APPLICATION.actions.labels, label)  # type: ignore[union-attr]
    before = dataclasses.replace(APPLICATION, actions=labels)
    KnownContracts(settings.home).note(APPLICATION.name, before)


def order_requeue(settings: Settings) -> None:
    """Ask a running stream to read its quarantine again, as serving does."""
    order = {"order": "requeue", "at_ms": time.time_ns() // 1_000_000}
    publish(settings, "policies", [order], key=b"@stream/requeue")


def records(settings: Settings) -> list[Record]:
    """Everything that both topics hold."""
    consumer = KafkaConsumer(**settings.kafka_reader())
    found: list[Record] = []
    for topic in (settings.topic("decisions"), settings.topic("outcomes")):
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end = consumer.end_offsets([partition])[partition]
        while consumer.position(partition) < end:
            for r in consumer.poll(1000).get(partition, []):
                found.append(Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value))
    consumer.close()
    return found


def expected_replay(settings: Settings) -> dict[tuple[str, str], dict[str, Any]]:
    """The folded table that the records say there should be, without Spark, Delta or a join."""
    topic = settings.topic("decisions")
    decoder = Decoder({APPLICATION.name: APPLICATION}, topic)
    every = records(settings)
    outputs = [(record, output) for record in every for output in decoder.single(record)]
    _place(
        [output[name] for _, output in outputs for name in ("replay", "outcome") if name in output]
    )
    rows = [output["replay"] for _, output in outputs if "replay" in output]
    told = [output["outcome"] for _, output in outputs if "outcome" in output]
    address = ("application", "hour", "decision_id")
    joined = [
        row | {"outcomes": [{k: v for k, v in one.items() if k not in address}]}
        for row in rows
        for one in told
        if (one["application"], one["decision_id"]) == (row["application"], row["decision_id"])
    ]
    return folded([*rows, *joined])


def _place(rows: list[dict[str, Any]]) -> None:
    """Give rows whose id says no hour that of the first event which names it."""
    first: dict[str, int] = {}
    for row in rows:
        at = row["positions"][0]["received_at_ms"] // 3_600_000
        first[row["decision_id"]] = min(at, first.get(row["decision_id"], at))
    for row in rows:
        if row["hour"] is None:
            row["hour"] = first[row["decision_id"]]


def folded(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows folded by the definition, their values as the table would give them back."""
    table = pa.Table.from_pylist(list(fold_rows(rows).values()), schema=arrow_schema("replay"))
    return {(row["application"], row["decision_id"]): row for row in table.to_pylist()}
