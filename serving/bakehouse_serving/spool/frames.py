"""One record on disk: framed, so that a reader knows a whole one from a torn or damaged one.

    marker 2 bytes | length of the body u32 | crc32 of length and body u32 | body
    body: topic u8 | length of the key u16 | key | value

The marker holds a byte that no UTF-8 text contains, so nothing inside an event looks like a
frame, and a reader that meets damage finds the next whole frame by searching for it.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

MARKER = b"\xff\xb7"
HEADER = struct.Struct("<2sII")
_LENGTH = struct.Struct("<I")
_PREFIX = struct.Struct("<BH")


class Topic(IntEnum):
    """Where a record goes. The numbers are on disk: never change the meaning of one."""

    DECISIONS = 0
    OUTCOMES = 1
    POLICIES = 2


class Record(NamedTuple):
    """One event on its way to Kafka."""

    topic: int
    key: bytes
    value: bytes


class Scan(NamedTuple):
    """What a stretch of bytes held."""

    records: list[Record]
    end: int  # offset after the last whole frame; what follows may still be growing
    damaged: int  # stretches that were skipped because no whole frame could be read there


def frame(record: Record) -> bytes:
    """The record, ready to be appended.

    Raises:
        struct.error: the key is longer than 65,535 bytes, or the body than 4 GiB.
    """
    body = _PREFIX.pack(record.topic, len(record.key)) + record.key + record.value
    length = len(body)
    checksum = zlib.crc32(body, zlib.crc32(_LENGTH.pack(length)))
    return HEADER.pack(MARKER, length, checksum) + body


def scan(data: bytes, *, most: int | None = None, sealed: bool = False) -> Scan:
    """The whole frames in `data`, in order, at most `most` of them.

    Args:
        sealed: nothing more will follow, so an unfinished frame at the end is damage that
            counts, and `end` is the end of the data.
    """
    records: list[Record] = []
    at = end = damaged = 0
    size = len(data)
    broken = False  # inside a stretch that cannot be read
    while at < size and (most is None or len(records) < most):
        state = _body_at(data, at, size)
        if isinstance(state, tuple):
            start, stop = state
            topic, key_length = _PREFIX.unpack_from(data, start)
            value_at = start + _PREFIX.size + key_length
            records.append(
                Record(topic, data[start + _PREFIX.size : value_at], data[value_at:stop])
            )
            at = end = stop
            broken = False
            continue
        # A frame that has not all been written, or damage? If a whole frame follows, damage.
        following = _next_whole(data, at + 1, size)
        if following is None:
            if sealed:
                damaged += not broken
                end = size
            break
        if not broken:
            damaged += 1
            broken = True
        at = following
    return Scan(records, end, damaged)


def _body_at(data: bytes, at: int, size: int) -> tuple[int, int] | None:
    """Start and stop of the body of a whole frame at `at`, None if there is none."""
    start = at + HEADER.size
    if start > size:
        return None
    marker, length, checksum = HEADER.unpack_from(data, at)
    stop = start + length
    if marker != MARKER or stop > size or length < _PREFIX.size:
        return None
    if zlib.crc32(data[start:stop], zlib.crc32(_LENGTH.pack(length))) != checksum:
        return None
    _, key_length = _PREFIX.unpack_from(data, start)
    if _PREFIX.size + key_length > length:
        return None  # never written by `frame`: the key would reach into what follows
    return start, stop


def _next_whole(data: bytes, at: int, size: int) -> int | None:
    at = data.find(MARKER, at)
    while at >= 0:
        if _body_at(data, at, size) is not None:
            return at
        at = data.find(MARKER, at + 1)
    return None
