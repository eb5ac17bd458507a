"""What the hot routes have in common: an application behind them, what goes to the log, replies."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import orjson

from bakehouse_schemas.errors import InvalidEvent
from bakehouse_serving.hot.idempotency import IdempotencyCache
from bakehouse_serving.hot.outcome_tokens import OutcomeTokens
from bakehouse_serving.policies.served import Served
from bakehouse_serving.problems import MEDIA_TYPE, problem_bytes
from bakehouse_serving.spool.frames import Record

MOST_IN_A_BATCH = 5_000
ENTRIES_A_TURN = 64  # of a batch, before other requests get their turn


class Log(Protocol):
    """Where events go before a request is answered."""

    def append(self, records: list[Record], *, always: bool = False) -> None:
        """Write all or none. Raises SpoolFull."""


class Route(NamedTuple):
    """One application behind the hot routes."""

    served: Served
    answers: IdempotencyCache
    tokens: OutcomeTokens | None = None  # where outcomes must carry one


class Reply(NamedTuple):
    """Status, body, media type and further headers."""

    status: int
    body: bytes
    media_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


def refusal(status: int, detail: str) -> Reply:
    """A problem as a reply."""
    return Reply(status, problem_bytes(status, detail), MEDIA_TYPE.encode())


def entries_of(body: dict[str, Any], field: str) -> list[Any]:
    """The list that a body consists of.

    Raises:
        InvalidEvent: it is none, is not alone, or is too long.
    """
    entries = body.get(field)
    if not isinstance(entries, list):
        came = "nothing" if field not in body else type(entries).__name__
        raise InvalidEvent(f"{field}: expected a list, got {came}")
    if set(body) != {field}:
        raise InvalidEvent(f"expected only {field!r}, got {sorted(body)!r:.200}")
    if len(entries) > MOST_IN_A_BATCH:
        raise InvalidEvent(f"{field}: {len(entries)} entries, at most {MOST_IN_A_BATCH} at once")
    return entries


def recorded(
    topic: int, decision_id: str, event: dict[str, Any], largest: str, most: int
) -> Record:
    """An event as it goes to the log.

    Args:
        largest: the field that a game can make large.
        most: bytes that the topic takes.

    Raises:
        InvalidEvent: it is larger, or JSON cannot carry it.
    """
    try:
        value = orjson.dumps(event)
    except orjson.JSONEncodeError as error:
        raise InvalidEvent(f"the JSON is nested too deeply, or cannot be kept: {error}") from None
    if len(value) > most:
        raise InvalidEvent(
            f"{largest}: its record has {len(value)} bytes, more than the {most} that the topic "
            "takes"
        )
    return Record(topic, decision_id.encode(), value)
