"""Keeps a TensorFlow SavedModel of anchors, for whoever asks later what TensorFlow answered.

Serving never reads it. A second agent takes the weights over and writes them down in a thread of
its own, so the one that trains is not held up.
"""

from __future__ import annotations

import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bakehouse_learner.training.agent import Setup, TrainableAgent

log = logging.getLogger(__name__)

SAVE_EVERY_S = 60.0  # tracing and writing take most of a second
KEPT = 20


class Anchor(NamedTuple):
    """Weights that were shown to be good."""

    setup: Setup
    version: int
    state: Mapping[str, np.ndarray]


class AnchorArchive(threading.Thread):
    """A thread that writes each new anchor as a SavedModel, at most one a minute.

    Args:
        folder: gets `<application>/<version>/`.
        build: makes the second agent; `bakehouse_learner.agents.build_agent`.
        save: writes one agent into a folder;
            `bakehouse_learner.agents.common.saved_model.save_model`.
    """

    def __init__(
        self,
        folder: Path,
        build: Callable[[Setup], TrainableAgent],
        save: Callable[[Path, TrainableAgent, Setup], None],
    ) -> None:
        super().__init__(name="audit", daemon=True)
        self._folder = folder
        self._build = build
        self._save = save
        self._anchors: queue.Queue[Anchor | None] = queue.Queue(maxsize=4)
        self._agents: dict[
            str, tuple[Setup, TrainableAgent]
        ] = {}  # one an application, while it fits
        self._last: dict[str, float] = {}
        self.saved = 0
        self.failures = 0

    def keep(self, anchor: Anchor) -> None:
        """Never blocks; of anchors that follow each other within a minute the first is kept."""
        name, now = anchor.setup.application.name, time.monotonic()
        last = self._last.get(name)
        if last is not None and now - last < SAVE_EVERY_S:
            return
        try:
            self._anchors.put_nowait(anchor)
            self._last[name] = now
        except queue.Full:
            self.failures += 1

    def stop(self) -> None:
        """Finish the one that is being written."""
        try:
            self._anchors.put_nowait(None)
        except queue.Full:
            return
        if self.is_alive():
            self.join(timeout=5.0)

    def run(self) -> None:
        while (anchor := self._anchors.get()) is not None:
            try:
                self._write(anchor)
                self.saved += 1
            except Exception as error:  # TensorFlow's own, or the disk's
                self.failures += 1
                log.warning(
                    "no SavedModel of anchor %d: %s",
                    anchor.version,
                    error,
                    extra={"application": anchor.setup.application.name},
                )

    def _write(self, anchor: Anchor) -> None:
        name = anchor.setup.application.name
        known = self._agents.get(name)
        if known is None or known[0] is not anchor.setup:
            known = self._agents[name] = (anchor.setup, self._build(anchor.setup))
        agent = known[1]
        agent.restore(anchor.state)
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        self._save(folder / str(anchor.version), agent, anchor.setup)
        there = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        for version in there[:-KEPT]:
            shutil.rmtree(folder / str(version), ignore_errors=True)
