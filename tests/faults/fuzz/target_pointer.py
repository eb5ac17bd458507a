"""Bytes as a pointer of `policies.v1`, a record of `progress.v1` or of `status.v1`.

Must hold: InvalidEvent or a record, and nothing else; a record that was taken can be written
again as JSON; a pointer to a bundle that is not there, or not inside the policies' folder, is
refused with a BundleError, whatever its uri.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import orjson

from bakehouse_schemas.errors import BundleError, InvalidEvent
from bakehouse_schemas.events.events import PolicyPointer, Progress, Status
from bakehouse_schemas.events.validation import validated
from bakehouse_schemas.events.wire import parse_object
from bakehouse_schemas.policy import bundle
from tests.faults.fuzz.documents import mutate_document
from tests.faults.fuzz.events import NOW_MS

POLICIES = Path(tempfile.gettempdir()) / "fuzz-no-policies-here"
MODELS = (PolicyPointer, Progress, Status)


def seeds() -> list[bytes]:
    """One of each, and the pointer back to the baseline."""
    pointer = {"application": "shop", "version": 7, "published_at_ms": NOW_MS}
    committed = {"decisions.v1": {"0": 17, "1": 4}, "outcomes.v1": {"0": 3}}
    return [
        json.dumps(fields).encode()
        for fields in (
            pointer | {"uri": f"file://{POLICIES}/shop/7", "sha256": "0" * 64},
            pointer | {"uri": "../../etc", "sha256": None},
            pointer | {"version": 0},
            {
                "stream_time_ms": NOW_MS,
                "replay_version": -1,
                "committed": committed,
                "applied_ms": NOW_MS,
            },
            {"part": "stream", "process": "p1", "at_ms": NOW_MS, "open": {"a": [1, 2.5, None]}},
        )
    ]


def check(data: bytes) -> None:
    """See the module."""
    for model in MODELS:
        try:
            fields = parse_object(data)
            said = validated(model, fields)
        except InvalidEvent as refusal:
            assert str(refusal)
            continue
        assert validated(model, json.loads(json.dumps(said.model_dump()))) == said
        orjson.dumps(fields)
        if isinstance(said, PolicyPointer) and said.uri is not None:
            try:
                bundle.load_bundle(
                    Path(said.uri.removeprefix("file://")),
                    application=said.application,
                    contract="c1",
                    sha256=said.sha256,
                    inside=POLICIES,
                )
            except BundleError:
                continue
            raise AssertionError(f"{said.uri!r} was loaded")


SEEDS = seeds()


def mutate(
    data: bytes, size: int, random: Random, bytewise: Callable[[bytes, int], bytes]
) -> bytes:
    """Another record near this one."""
    words = ("uri", "sha256", "committed", "0", "a\x00b", "/proc/self", "n" * 4_500, "file://", 7)
    return mutate_document(data, size, random, bytewise, words, SEEDS)


def plant() -> None:
    """A uri is resolved as it comes."""

    def trusting(path: Path, inside: Path) -> None:
        if not path.resolve().is_relative_to(inside.resolve()):
            raise BundleError("outside")

    bundle.check_inside = trusting
