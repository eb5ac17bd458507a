"""Which decisions are traced, and how their spans are named: pure, the same in every part.

A UUIDv7 is 128 bits, so it is the trace's id; of any other `decision_id` 128 bits of a hash are.
Whether a decision is traced follows from its id and the share: every part knows by itself, and
events carry no word of it. So do the ids of spans follow from what they are of: a part names the
span of another without having met it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from bakehouse_schemas.ids import is_decision_id, is_uuid7

MOST_TRACED = 16  # decisions that a policy's manifest names
# Under `gate`, which is an open object: servers of an earlier release load such a manifest, too.
TRACED = "traced_decisions"
DECIDE, OUTCOME, JOIN = "decide", "outcome", "join"
TRAIN, PUBLISH, SWAP, FIRST_ANSWER = "train", "publish", "swap", "first answer"

Attributes = Mapping[str, str | int | float | bool]  # of a span


class Span(NamedTuple):
    """One stretch of a decision's way. Times are nanoseconds since 1970, UTC.

    Args:
        key: tells spans of one name apart: an outcome's id, a policy's version. It goes into the
            span's id, and nowhere else.
        attributes: never of a player: no subject, no context, no payload.
    """

    decision_id: str
    name: str
    start_ns: int
    end_ns: int
    attributes: Attributes
    key: str = ""

    @property
    def span_id(self) -> int:
        return span_id(self.decision_id, self.name, self.key)

    @property
    def parent_id(self) -> int | None:
        """All hang on the answer to the game; that one hangs on nothing."""
        return None if self.name == DECIDE else span_id(self.decision_id, DECIDE)


def is_traced(decision_id: str, share: float) -> bool:
    """Whether a decision belongs to the share of those that are traced.

    The CRC-32 of a UUIDv7 is uniform, for the bits that are drawn at random in it are; of other
    ids, which may only count, a hash is taken. What is traced at a share is traced at every
    larger one.
    """
    if is_uuid7(decision_id):
        drawn = zlib.crc32(decision_id.encode())
    else:
        drawn = trace_id(decision_id) >> 96
    return drawn < share * 0x1_0000_0000


def trace_id(decision_id: str) -> int:
    """128 bits, never 0: a UUIDv7 itself, or a hash of any other id."""
    if is_uuid7(decision_id):
        return int(decision_id.replace("-", ""), 16)
    return int.from_bytes(hashlib.blake2b(decision_id.encode(), digest_size=16).digest()) or 1


def span_id(decision_id: str, name: str, key: str = "") -> int:
    """64 bits, never 0, of a span's name within its trace."""
    said = f"{decision_id}/{name}/{key}".encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big") or 1


def named_in(gate: Mapping[str, Any]) -> tuple[str, ...]:
    """The traced decisions that a manifest names as new in its policy; what is no id is none."""
    found = gate.get(TRACED)
    if not isinstance(found, list):
        return ()
    return tuple(one for one in found if isinstance(one, str) and is_decision_id(one))[:MOST_TRACED]


def to_name(traced: Iterable[str]) -> dict[str, list[str]]:
    """What goes into a manifest's `gate`: the newest of these; nothing where there are none."""
    newest = list(dict.fromkeys(traced))[-MOST_TRACED:]
    return {TRACED: newest} if newest else {}
