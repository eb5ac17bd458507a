"""When is a learner's checkpoint written, and which plans may be forgotten then?

A plan is kept until a checkpoint that holds what it led to is on disk: after a
restart what is left is carried out again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bakehouse_learner.artifacts.checkpoint import write_checkpoint
from bakehouse_learner.training.plan import PlanLog

log = logging.getLogger(__name__)

CHECKPOINT_EVERY_S = 30.0


class Checkpointer:
    """Writes the checkpoints of one application.

    Args:
        snapshot: what is to be saved.
        version: of the newest candidate in it.
        clock: seconds that do not jump.
    """

    def __init__(
        self,
        application: str,
        path: Path,
        plans: PlanLog,
        snapshot: Callable[[], dict[str, Any]],
        version: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._named = {"application": application}  # of a line in the log
        self._path = path
        self._plans = plans
        self._snapshot = snapshot
        self._version = version
        self._clock = clock
        self._saved_at = clock()
        self._saved_version = 0  # of the newest checkpoint that is on disk
        self._thread: threading.Thread | None = None

    def is_due(self, now: float) -> bool:
        """Whether the last one, tried or written, is old enough; seconds on the clock."""
        return now - self._saved_at >= CHECKPOINT_EVERY_S

    def now(self) -> None:
        """Write one, and return when it is there."""
        if self._thread is not None:
            self._thread.join()
        version = self._version()
        write_checkpoint(self._path, self._snapshot())
        self._plans.keep_after(version)
        self._saved_at, self._saved_version = self._clock(), version

    def aside(self) -> None:
        """Write one in the background; its plans are forgotten once it is there."""
        self._saved_at = self._clock()
        if self._thread is not None:
            if self._thread.is_alive():
                return
            self._plans.keep_after(self._saved_version)
            self._thread = None
        version = self._version()
        if version == self._saved_version:
            return
        self._thread = threading.Thread(
            target=self._write, args=(self._snapshot(), version), name="checkpoint"
        )
        self._thread.start()

    def _write(self, state: dict[str, Any], version: int) -> None:
        try:
            write_checkpoint(self._path, state)
        except OSError as error:
            # the one before counts, so the plans since then must stay
            log.error(
                "no checkpoint of version %d: %s; tried again later",
                version,
                error,
                extra=self._named,
            )
        else:
            self._saved_version = version
