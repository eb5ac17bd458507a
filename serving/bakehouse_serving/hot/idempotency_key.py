"""The header `Idempotency-Key`: what asks again with the same one gets the same answer.

It does what ids in a body do, and only where there are none: of one decision it is the
`decision_id`; of the entries of a batch, and of outcomes, `<key>:<n>` is the id of the nth.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256

from bakehouse_schemas.errors import InvalidEvent
from bakehouse_schemas.ids import MOST_ID_BYTES, is_decision_id

HEADER = b"idempotency-key"
LONGEST_ENTRY = 5  # `:4999`, of the last entry that a request can have
OF_STREAM = "next:"  # outcomes whose ids begin so are stream's own
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')  # a string of RFC 9651
_ESCAPED = re.compile(r'\\(["\\])')

Headers = Sequence[tuple[bytes, bytes]]


def idempotency_key(headers: Headers) -> str | None:
    """The key of a request; None where it has none.

    Args:
        headers: names in lower case, as ASGI has them.

    Raises:
        InvalidEvent: there are several, or it cannot name anything.
    """
    found = None
    for name, value in headers:
        if name == HEADER:
            if found is not None:
                raise InvalidEvent("Idempotency-Key: expected one, got several")
            found = value
    return None if found is None else _key(found)


def entry_id(key: str, entry: int) -> str:
    """The id of one of a request's entries, which are numbered from 0."""
    if len(key.encode()) > MOST_ID_BYTES - LONGEST_ENTRY or key.startswith(OF_STREAM):
        key = _hashed(key)
    return f"{key}:{entry}"


def _key(value: bytes) -> str:
    try:
        text = value.decode().strip()
    except UnicodeDecodeError:
        raise InvalidEvent(f"Idempotency-Key: expected UTF-8, got {value!r:.80}") from None
    if (quoted := _QUOTED.fullmatch(text)) is not None:
        text = _ESCAPED.sub(r"\1", quoted[1])
    key = text if len(text.encode()) <= MOST_ID_BYTES else _hashed(text)
    if not is_decision_id(key):
        raise InvalidEvent(
            "Idempotency-Key: expected a text without control characters or line breaks, got "
            f"{text!r:.80}"
        )
    return key


def _hashed(text: str) -> str:
    return f"key-{sha256(text.encode()).hexdigest()}"
