"""Bytes as a control record of `policies.v1`, as serving's subscriber parses it.

Must hold: InvalidEvent or a control, and nothing else; a control that was taken can be kept for a
restart, and comes back as it was; what people say next is newer, and valid too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

import orjson

from bakehouse_schemas.errors import InvalidEvent
from bakehouse_schemas.events import wire
from bakehouse_schemas.events.events import Control
from bakehouse_schemas.events.records import read_control
from bakehouse_schemas.events.validation import validated
from bakehouse_schemas.events.wire import parse_object
from tests.faults.fuzz.documents import mutate_document
from tests.faults.fuzz.events import NOW_MS


def seeds() -> list[bytes]:
    """A kill, a pin, and a bare one."""
    return [
        json.dumps(fields).encode()
        for fields in (
            {"application": "shop", "at_ms": NOW_MS},
            {"application": "shop", "at_ms": NOW_MS, "killed": True, "by": "anna", "why": "bug"},
            {"application": "shop", "at_ms": NOW_MS, "pinned_version": 7, "frozen": True},
        )
    ]


def check(data: bytes) -> None:
    """See the module."""
    try:
        said = read_control(data, received_at_ms=NOW_MS)
    except InvalidEvent as refusal:
        assert str(refusal)
        return
    assert validated(Control, json.loads(json.dumps(said.model_dump()))) == said
    assert validated(Control, parse_object(orjson.dumps(said.model_dump()))) == said
    validated(Control, said.model_dump() | {"at_ms": said.at_ms + 1})


SEEDS = seeds()


def mutate(
    data: bytes, size: int, random: Random, bytewise: Callable[[bytes, int], bytes]
) -> bytes:
    """Another control near this one."""
    words = ("application", "pinned_version", "frozen", "killed", "by", "why", "at_ms", 7)
    return mutate_document(data, size, random, bytewise, words, SEEDS)


def plant() -> None:
    """Python's own JSON parser, to which NaN, 1e999 and any whole number are JSON."""
    wire._DECODER = json.JSONDecoder()
