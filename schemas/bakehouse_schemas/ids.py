"""Decision ids: a UUIDv7 (RFC 9562), which sorts by and carries its time, or a game's own text."""

from __future__ import annotations

import os
import re
import time
import unicodedata

MOST_ID_BYTES = 128  # of a decision id, in UTF-8
ID_RULE = f"1 to {MOST_ID_BYTES} bytes of UTF-8 without control characters or line breaks"
_NO_SIGNS = frozenset({"Cc", "Zl", "Zp"})  # what readers take for the end of a line among them
UUID7_PATTERN = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_is_uuid7 = re.compile(UUID7_PATTERN).fullmatch
MS_PER_HOUR = 3_600_000


def uuid7(now_ms: int | None = None) -> str:
    """A new UUIDv7 in lower-case text; `now_ms` is milliseconds since 1970, UTC."""
    if now_ms is None:
        now_ms = time.time_ns() // 1_000_000
    return uuid7_of(now_ms, os.urandom(10))


def uuid7_of(now_ms: int, ten_bytes: bytes) -> str:
    """The UUIDv7 of a time and of bits that the caller chose; 74 of the 80 are used."""
    random = int.from_bytes(ten_bytes, "big")
    value = (now_ms & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76 | (random >> 68) << 64  # version, 12 random bits
    value |= 0b10 << 62 | (random & 0x3FFF_FFFF_FFFF_FFFF)  # variant, 62 random bits
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_uuid7(text: str) -> bool:
    """Whether `text` is a UUIDv7 in canonical lower-case form."""
    return _is_uuid7(text) is not None


def is_decision_id(text: str) -> bool:
    """Whether `text` can name a decision: see `ID_RULE`.

    Ids are compared byte by byte: a UUIDv7 in upper case, or `é` composed otherwise, is another.
    """
    if text.isascii():
        return 0 < len(text) <= MOST_ID_BYTES and text.isprintable()
    try:
        fits = len(text.encode()) <= MOST_ID_BYTES
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return fits and not any(unicodedata.category(sign) in _NO_SIGNS for sign in text)


def uuid7_time_ms(decision_id: str) -> int:
    """The time that a UUIDv7 carries, in milliseconds since 1970, UTC.

    Raises:
        ValueError: `decision_id` does not begin with 12 hexadecimal digits.
    """
    return int(decision_id[:8] + decision_id[9:13], 16)


def uuid7_hour(decision_id: str) -> int:
    """Hours since 1970, UTC: the replay partition of a decision and of all its outcomes."""
    return uuid7_time_ms(decision_id) // MS_PER_HOUR


def own_hour(decision_id: str) -> int | None:
    """The hour inside a UUIDv7; None of any other text, whose hour is that of its arrival."""
    if _is_uuid7(decision_id) is None:
        return None
    return int(decision_id[:8] + decision_id[9:13], 16) // MS_PER_HOUR
