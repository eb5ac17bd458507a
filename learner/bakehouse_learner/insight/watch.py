"""Figures beside a learning that never waits for them, and that their failure does not stop."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from bakehouse_learner.gate.candidate import Candidate
from bakehouse_learner.insight.insight import Insight
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.training.plan import Plan

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
TELL_EVERY_S = 2.0
PAUSE_AFTER_FAILURE_S = 60.0


class Watch:
    """Calls an application's figures when it is time. Nothing raises.

    After a failure the figures rest for a minute; those that fail when they are restored begin
    anew.

    Args:
        make: figures of nothing yet.
        clock: seconds that do not jump.
    """

    def __init__(
        self, application: str, make: Callable[[], Insight], clock: Callable[[], float]
    ) -> None:
        self._application = application
        self._make = make
        self._clock = clock
        self.insight = make()
        self._looked_at = self._told_at = -math.inf
        self._not_before = -math.inf
        self.failures = 0

    def begin_anew(self) -> None:
        """Forget everything: learning starts over as well."""
        self.insight.close()
        self.insight = self._make()

    def begin_after(self, ring: Ring) -> None:
        """What is in the ring was decided elsewhere, or by an earlier release: not counted."""
        self._try(lambda: self.insight.begin(ring))

    def go_on_in(self, ring: Ring) -> None:
        """The ring was rebuilt from the table."""
        self._try(lambda: self.insight.go_on_in(ring))

    def read(self, table: pa.Table) -> None:
        """Rows as they came."""
        self._try(lambda: self.insight.offer(table, self._clock()))

    def trained(self, candidate: Candidate, plan: Plan, mlflow_run: str | None) -> None:
        """A training is over."""
        self._try(lambda: self.insight.trained(candidate, plan, mlflow_run))

    def look(self, ring: Ring, stream_time_ms: int) -> None:
        """Count what has matured, if it is time."""
        if self._clock() - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = self._clock()
            self._try(lambda: self.insight.take(ring, stream_time_ms))

    def record(
        self, *, process: str, at_ms: int, match_rate: float | None
    ) -> dict[str, Any] | None:
        """What to tell, if it is time and anything has changed; see `Insight.record`."""
        if self._clock() - self._told_at < TELL_EVERY_S:
            return None
        found: dict[str, Any] | None = self._try(
            lambda: self.insight.record(process=process, at_ms=at_ms, match_rate=match_rate)
        )
        if found is not None:
            self._told_at = self._clock()
        return found

    def state(self) -> dict[str, Any] | None:
        """For the checkpoint; None where there is none to be had."""
        found: dict[str, Any] | None = self._try(lambda: self.insight.state())
        return found

    def restore(self, state: Mapping[str, Any] | None, ring: Ring) -> None:
        """Go on where a checkpoint ended.

        Args:
            state: None: the checkpoint holds none.
        """
        if state is None:
            self.begin_after(ring)
            return
        try:
            self.insight.restore(state)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            log.warning("%s: figures begin anew: %s", self._application, error)
            self.begin_anew()
            self.begin_after(ring)

    def close(self) -> None:
        """End what runs beside."""
        self.insight.close()

    def _try(self, call: Callable[[], Any]) -> Any:
        if self._clock() < self._not_before:
            return None
        try:
            return call()
        except Exception:
            self.failures += 1
            self._not_before = self._clock() + PAUSE_AFTER_FAILURE_S
            log.exception(
                "%s: its figures failed and rest for %.0f s; learning goes on",
                self._application,
                PAUSE_AFTER_FAILURE_S,
            )
            return None
