"""Ends connections whose request does not come to an end.

Uvicorn waits for the rest of a head or a body for ever, so a client that sends a byte an hour
would hold a connection, and its memory, as long as it likes. Looked at once a second, all
connections together: a timer for each request would cost more than the request is worth.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

REQUEST_S = 30.0  # from the first look at an unfinished request to its end


class RequestTimeout:
    """Closes connections whose request has been under way for longer than a limit."""

    def __init__(self, limit_s: float = REQUEST_S) -> None:
        self._limit_s = limit_s
        self._since: dict[Any, tuple[Any, float]] = {}  # connection → request, first seen

    def look(self, connections: Iterable[Any], now: float) -> int:
        """End those that have kept their server waiting for too long; returns how many.

        Args:
            connections: uvicorn's protocols (`Server.server_state.connections`).
            now: monotonic, in seconds.
        """
        before, self._since = self._since, {}
        ended = 0
        for connection in list(connections):
            if not _keeps_waiting(connection):
                continue
            request, since = before.get(connection, (None, now))
            if request is not connection.cycle:  # it has got on since the last look
                since = now
            if now - since > self._limit_s:
                connection.transport.close()
                ended += 1
            else:
                self._since[connection] = (connection.cycle, since)
        return ended


def _keeps_waiting(connection: Any) -> bool:
    """Whether a head or a body is under way; one that rests between requests has a timer."""
    cycle = connection.cycle
    return connection.timeout_keep_alive_task is None and (
        cycle is None or cycle.more_body or cycle.response_complete
    )
