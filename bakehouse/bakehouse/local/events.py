"""What happens in a stack, told to whoever watches, in order and never in anybody's way."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path

from bakehouse_schemas.process.logs import Format, JsonLines

LOG_BYTES = 1 << 20


@dataclass(frozen=True)
class StackEvent:
    """Something that a person who watches a stack wants to know."""

    part: str
    what: str  # phase, ready, died, given up, failed, stopping, stopped
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.part}: {self.what}{': ' if self.detail else ''}{self.detail}"


OnEvent = Callable[[StackEvent], None]


class Events:
    """Delivers events to a callback and a log, from a thread of its own.

    Of its own, because the callback may wait for a lock (a display's) that is held by somebody
    who asks the supervisor something.
    """

    def __init__(self, on_event: OnEvent | None, log: Path, log_format: Format = "text") -> None:
        self._on_event = on_event
        self._queue: queue.SimpleQueue[StackEvent | None] = queue.SimpleQueue()
        log.parent.mkdir(parents=True, exist_ok=True)
        self._handler = RotatingFileHandler(log, maxBytes=LOG_BYTES, backupCount=1)
        self._handler.setFormatter(
            JsonLines("supervisor")
            if log_format == "json"
            else logging.Formatter("%(asctime)s %(message)s")
        )
        self._log = logging.Logger("bakehouse.supervisor", logging.INFO)  # not in the tree
        self._log.addHandler(self._handler)
        self._thread = threading.Thread(target=self._deliver, name="events", daemon=True)
        self._thread.start()

    def tell(self, part: str, what: str, detail: str = "") -> None:
        """Queue one event; returns at once."""
        self._queue.put(StackEvent(part, what, detail))

    def close(self) -> None:
        """Deliver what is queued, and end."""
        self._queue.put(None)
        self._thread.join()
        self._handler.close()

    def _deliver(self) -> None:
        while (event := self._queue.get()) is not None:
            self._log.info("%s", event)
            if self._on_event is not None:
                try:
                    self._on_event(event)
                except Exception:  # a display that breaks must not silence the log
                    self._log.exception("the callback failed for %s", event)
