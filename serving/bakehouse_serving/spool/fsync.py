"""Syncs the spool to disk beside the answers: what a power cut can take is bounded.

An fsync in front of every answer would cost milliseconds each. One a period costs nobody
anything, and then a power cut takes the events of one period at most.
"""

from __future__ import annotations

import logging
import threading

from bakehouse_serving.spool.spool import Spool

log = logging.getLogger(__name__)


class FsyncThread(threading.Thread):
    """Calls `Spool.sync` every `every_s` seconds while anything is appended."""

    def __init__(self, spool: Spool, *, every_s: float) -> None:
        super().__init__(name="syncer", daemon=True)
        self._spool = spool
        self._every_s = every_s
        self._stopping = threading.Event()
        self.problem: str | None = None

    def run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self.step()

    def step(self) -> None:
        """Sync once; a disk that refuses is logged, and asked again."""
        try:
            self._spool.sync()
            self.problem = None
        except Exception as error:  # whatever it is, the next sync must come
            if self.problem is None:
                log.error("the spool cannot be synced (%s); a power cut may take more", error)
            self.problem = str(error)

    def stop(self) -> None:
        """Sync once more and end."""
        self._stopping.set()
        if self.is_alive():
            self.join()
        self.step()
