"""How do the players hear of what the gate decided, and which bundles stay for that?

A bundle is whole on disk before the pointer names it, so a crash between the two leaves the
policy before it answering.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from bakehouse_learner.artifacts.anchor_archive import Anchor
from bakehouse_learner.artifacts.bundles import Bundles
from bakehouse_learner.gate.candidate import Candidate
from bakehouse_learner.learning import Learning
from bakehouse_learner.online.bus import Bus
from bakehouse_learner.online.traced import Traced
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.errors import BundleError
from bakehouse_schemas.events.events import PolicyPointer
from bakehouse_schemas.process.failpoints import reach

log = logging.getLogger(__name__)

PRUNE_EVERY = 20  # publications


class Tracker(Protocol):
    """Takes note of published candidates, off the critical path."""

    def offer(self, candidate: Candidate, bundle: Path, *, new_anchor: bool) -> None:
        """Never blocks; may drop."""

    def run_of(self, application: str) -> str | None:
        """The MLflow run that is open for an application, None where there is none."""


class Publisher:
    """Publishes the candidates of one application.

    Args:
        wall_ms: milliseconds since 1970, for records.
        tracker: takes note of what is published.
        keep_anchor: takes the weights of each new anchor.
        traced: takes spans of the traced decisions that were learned from.
    """

    def __init__(
        self,
        application: Application,
        bundles: Bundles,
        bus: Bus,
        *,
        wall_ms: Callable[[], int],
        tracker: Tracker | None,
        keep_anchor: Callable[[Anchor], None] | None,
        traced: Traced | None,
    ) -> None:
        self._name = application.name
        self._named = {"application": application.name}  # of a line in the log
        self._bundles = bundles
        self._bus = bus
        self._wall_ms = wall_ms
        self._tracker = tracker
        self._keep_anchor = keep_anchor
        self._traced = traced
        self.published = 0

    def carry_out(self, candidate: Candidate, learning: Learning) -> None:
        """Publish what the gate let through, or go back to what it says.

        Args:
            learning: has made the candidate, and followed the gate's report.
        """
        report = candidate.report
        if report.publish:
            self._publish(candidate, learning)
        elif report.rollback_to is not None or report.freeze:
            log.warning(
                "%s: %s",
                self._name,
                report.reason,
                extra=self._named | {"version": candidate.version},
            )
            if report.rollback_to is not None:
                self._go_back_to(report.rollback_to)

    def run(self) -> str | None:
        """The MLflow run that is open, None where there is none."""
        return None if self._tracker is None else self._tracker.run_of(self._name)

    def write_again(self, candidate: Candidate, learning: Learning) -> None:
        """A published candidate whose bundle the crash has prevented."""
        if not (self._bundles.folder / str(candidate.version)).exists():
            try:
                self._write(candidate, learning)
            except BundleError as error:
                log.warning("%s", error, extra=self._named)

    def point_again(self, learning: Learning) -> None:
        """Announce what answers, if the crash has prevented that.

        A policy of an earlier contract goes on as it is, and is announced for this one: servers
        carry it over as the learner has (`bakehouse_schemas.policy.carry`).
        """
        current = learning.deployment.current.number
        announced = (
            self._bus.pointer(self._name),
            self._bus.pointer(self._name, learning.application.contract),
        )
        if any(current != (pointer.version if pointer else 0) for pointer in announced):
            try:
                self._bus.publish(self._bundles.pointer_to(current, self._wall_ms()))
            except BundleError as error:
                log.warning("%s", error, extra=self._named)

    def named_versions(self, learning: Learning) -> set[int]:
        """Versions whose bundles stay: someone may go back to them."""
        deployment = learning.deployment
        named = {deployment.anchor.number, deployment.current.number}
        control = self._bus.control(self._name)
        if control is not None and control.pinned_version is not None:
            named.add(control.pinned_version)
        return named

    def _write(self, candidate: Candidate, learning: Learning) -> PolicyPointer:
        return self._bundles.write(
            candidate,
            lineage=learning.lineage,
            anchor=learning.deployment.anchor.number,
            previous=candidate.report.current,
            at_ms=self._wall_ms(),
            mlflow_run=self.run(),
            traced=self._traced.unpublished if self._traced is not None else (),
        )

    def _publish(self, candidate: Candidate, learning: Learning) -> None:
        began_ms = self._wall_ms()
        try:
            pointer = self._write(candidate, learning)
        except (BundleError, OSError) as error:
            log.error(
                "version %d was not published: %s", candidate.version, error, extra=self._named
            )
            return
        reach("learner.bundle.after_rename")
        self._bus.publish(pointer)
        reach("learner.pointer.sent")
        if self._traced is not None:
            self._traced.published(candidate.version, began_ms=began_ms, ended_ms=self._wall_ms())
        self.published += 1
        report = candidate.report
        if report.leaves_version_0 or report.new_anchor:
            log.info(
                "%s: version %d: %s",
                self._name,
                candidate.version,
                report.reason,
                extra=self._named | {"version": candidate.version},
            )
        if self._tracker is not None:
            bundle = self._bundles.folder / str(candidate.version)
            self._tracker.offer(candidate, bundle, new_anchor=report.new_anchor)
        if report.new_anchor and self._keep_anchor is not None:
            agent, setup = learning.agent, learning.setup
            assert agent is not None and setup is not None
            state = {name: np.copy(value) for name, value in agent.state().items()}
            self._keep_anchor(Anchor(setup, candidate.version, state))
        if self.published % PRUNE_EVERY == 1:  # the first too, lest short runs fill the disk
            self._bundles.prune(self.named_versions(learning))

    def _go_back_to(self, version: int) -> None:
        try:
            self._bus.publish(self._bundles.pointer_to(version, self._wall_ms()))
        except BundleError as error:
            log.error("cannot go back: %s", error, extra=self._named)
