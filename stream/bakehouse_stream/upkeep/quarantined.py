"""Rows of quarantine that are read again: which somebody wants, and the records that they were."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from bakehouse_schemas.events.events import Order
from bakehouse_stream.kafka.decode import QUARANTINE_BYTES, Record, Row

PLACE = ["topic", "partition", "offset"]
_REPLACED = "�"

Place = tuple[str, int, int]  # topic, partition, offset


class Wish(NamedTuple):
    """What is to be read again.

    Args:
        application: records that name it; None: of every application.
        everything: also what does not wait: what earlier releases refused, say.
        at_ms: when it was asked for; 0: stream wants it by itself.
    """

    application: str | None = None
    everything: bool = False
    at_ms: int = 0


def wish_of(order: Order) -> Wish:
    """What somebody asks stream for over Kafka."""
    return Wish(order.application, order.everything, order.at_ms)


def is_wished(row: Row, wish: Wish) -> bool:
    """Whether a row of quarantine is to be read again, and can be."""
    if row["value"] is None:
        return False
    if row["waits"] is None and not (wish.everything and _is_whole(row["value"])):
        return False
    if wish.application is None:
        return True
    try:
        said = orjson.loads(row["value"])
    except orjson.JSONDecodeError:
        return False
    return isinstance(said, dict) and said.get("application") == wish.application


def _is_whole(value: str) -> bool:
    """Whether a value that was not kept to be read again surely is what came: neither cut nor with
    bytes that no text has."""
    return len(value.encode()) < QUARANTINE_BYTES and _REPLACED not in value


def record_of(row: Row) -> Record:
    """The record, as it came."""
    key = None if row["key"] is None else row["key"].encode()
    return Record(
        row["topic"],
        row["partition"],
        row["offset"],
        row["received_at_ms"],
        key,
        row["value"].encode(),
    )


def place_of(row: Row) -> Place:
    """Where it lies in Kafka; of any row or position."""
    return row["topic"], row["partition"], row["offset"]
