"""A stretch of a spool: whole frames, with cuts, damage, repeats and forgeries between them.

Must hold: scanning ends and never raises; its end lies within the bytes; every frame that was left
whole is found, in order, whatever stands before it; nothing is returned that does not stand
there, framed and with the right checksum; scanning in pieces finds the same.
"""

from __future__ import annotations

import struct
import zlib

from bakehouse_serving.spool import frames
from bakehouse_serving.spool.frames import HEADER, MARKER, Record, Scan, frame, scan
from tests.faults.fuzz.choices import Choices

# what stands in the input: a kind, then what it takes
WHOLE, CUT, FLIPPED, JUNK, FORGED, AGAIN = range(6)


def seeds() -> list[bytes]:
    """Frames alone; with a torn end; with damage, junk and a forgery between them."""
    whole = bytes([WHOLE, 1, 2]) + b"id" + bytes([8]) + b'{"a": 1}'
    return [
        whole * 3,
        whole + bytes([CUT, 0, 2]) + b"id" + bytes([4]) + b"true" + b"\x07\x00",
        whole + bytes([FLIPPED, 0, 2]) + b"id" + bytes([4]) + b"true" + b"\x03\x00\x40" + whole,
        whole + bytes([JUNK, 4]) + MARKER + b"ab" + whole + bytes([AGAIN]) + whole,
        whole + bytes([FORGED, 6]) + b"\x00\xff\xff{}x" + whole,
    ]


def parts(choices: Choices) -> list[tuple[int, bytes]]:
    """What lies beside each other, each with its kind."""
    found: list[tuple[int, bytes]] = []
    while choices.left and len(found) < 64:
        kind = choices.byte() % 6
        if kind == JUNK:
            found.append((JUNK, choices.take(choices.byte())))
        elif kind == FORGED:  # any body, with the checksum that is right for it
            body = choices.take(choices.byte())
            length = struct.pack("<I", len(body))
            checksum = zlib.crc32(body, zlib.crc32(length))
            found.append((FORGED, HEADER.pack(MARKER, len(body), checksum) + body))
        elif kind == AGAIN:
            if found:
                found.append(found[choices.byte() % len(found)])
        else:
            framed = frame(Record(choices.byte() % 3, choices.text(), choices.text()))
            if kind == CUT:
                framed = framed[: choices.number() % len(framed)]
            elif kind == FLIPPED:
                damaged = bytearray(framed)
                damaged[choices.number() % len(framed)] ^= choices.byte() or 1
                framed = bytes(damaged)
            found.append((kind, framed))
    return found


def check(data: bytes) -> None:
    """See the module."""
    given = parts(Choices(data))
    spool = b"".join(framed for _, framed in given)
    for sealed in (True, False):
        found = scan(spool, sealed=sealed)
        assert 0 <= found.end <= len(spool)
        assert found.end == len(spool) or not sealed
        framed = [frame(record) for record in found.records]
        at = 0
        for one in framed:
            at = spool.find(one, at)
            assert at >= 0, f"{one!r} does not stand there"
            at += len(one)
        left = iter(framed)
        for kind, whole in given:
            if kind == WHOLE:
                assert whole in left, f"{whole!r} stands there whole and was not found"
        assert pieces(spool, sealed=sealed) == found.records


def pieces(spool: bytes, *, sealed: bool) -> list[Record]:
    """The records, two at a time, as a reader with a bound takes them."""
    records: list[Record] = []
    at = 0
    while True:
        found = scan(spool[at:], most=2, sealed=sealed)
        records += found.records
        if not found.records:
            return records
        assert found.end > 0
        at += found.end


def plant() -> None:
    """Frames are believed without their checksum."""

    def trusting(data: bytes, at: int, size: int) -> tuple[int, int] | None:
        start = at + HEADER.size
        if start > size:
            return None
        marker, length, _ = HEADER.unpack_from(data, at)
        return (start, start + length) if marker == MARKER and 3 <= length <= size - start else None

    frames._body_at = trusting


__all__ = ["Scan", "check", "parts", "plant", "seeds"]
