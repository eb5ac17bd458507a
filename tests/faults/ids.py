"""Decision ids as games make them: UUIDv7s, `crypto.randomUUID()`, and texts of their own."""

from __future__ import annotations

import itertools
from uuid import uuid4

from bakehouse_schemas.ids import uuid7

ODD = ("match {}/ä 1", "é" * 46 + "{}", "🎲{}", "{} ")  # the second has 128 bytes
_turn = itertools.count()


def game_id() -> str:
    """Another one each time; half of them are UUIDv7s, and each kind has its turn."""
    turn = next(_turn) % 12
    if turn % 2:
        return uuid7()
    drawn = str(uuid4())
    return drawn if turn < 4 else ODD[turn // 2 - 2].format(drawn)
