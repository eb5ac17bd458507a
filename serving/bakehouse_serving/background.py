"""Tasks and threads beside the answers: which are alive, and whose last turn failed.

A periodic task does not end because one turn failed: that is logged, and the next turn comes. One
that ends all the same is named in the log, and `/readyz` is 503 from then on: only a restart
brings it back.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)


class Background:
    """The tasks and threads of a serving process; any thread may ask."""

    def __init__(self) -> None:
        self._alive: dict[str, Callable[[], bool]] = {}
        self._named: set[str] = set()  # that ended, in the log
        self._failing: dict[str, type[Exception]] = {}

    def watch(self, name: str, is_alive: Callable[[], bool]) -> None:
        """From here on this one has to be alive."""
        self._alive[name] = is_alive

    @property
    def ended(self) -> list[str]:
        """Those that have ended, though the process runs."""
        return [name for name, is_alive in list(self._alive.items()) if not is_alive()]

    @property
    def failing(self) -> list[str]:
        """Those whose last turn failed."""
        return sorted(self._failing)

    def look(self) -> None:
        """Log those that have ended since the last look."""
        for name in self.ended:
            if name not in self._named:
                self._named.add(name)
                log.critical("%s has ended; only a restart of serving brings it back", name)

    @contextlib.contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """A turn that may fail: logged where it fails otherwise than the one before."""
        try:
            yield
        except Exception as error:
            if self._failing.get(name) is not type(error):
                log.exception("%s failed; its next turn comes all the same", name)
            self._failing[name] = type(error)
        else:
            if self._failing.pop(name, None) is not None:
                log.info("%s works again", name)
