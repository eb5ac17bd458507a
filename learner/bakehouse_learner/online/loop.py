"""Table → ring → training → gate → policy, for one application, again and again.

Wiring: what is decided is decided in pure files; what is read and written goes through the bus.
"""

from __future__ import annotations

import logging
import math
from typing import Any

from bakehouse_learner.online.resuming import ResumableLoop
from bakehouse_learner.online.status import LastTraining, application_status
from bakehouse_learner.replay.buffer_size import RoomWatch
from bakehouse_learner.replay.tail import LogGap
from bakehouse_learner.training.cadence import Cadence
from bakehouse_learner.training.plan import next_plan
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.process.addresses import told
from bakehouse_schemas.process.failpoints import reach

log = logging.getLogger(__name__)

PAUSE_AFTER_FAILURE_S = 5.0


class ApplicationLoop(ResumableLoop):
    """One application's learner, driven by `turn`. Arguments: see `ResumableLoop`."""

    def __init__(self, application: Application, *given: Any, **named: Any) -> None:
        super().__init__(application, *given, **named)
        self._cadence = Cadence(application.training.every)
        self._room = RoomWatch(application)
        self._stream_time_ms = -1
        self._trained_at: float | None = None
        self._problem: str | None = None
        self._not_before = -math.inf  # after a failure
        self._last = LastTraining()

    def turn(self) -> bool:
        """Read what is new, and train if it is time; True if anything was done.

        What goes wrong with one application is logged and shown in its status, and tried again
        after a while: the others, and the policy that answers, go on.
        """
        if self._clock() < self._not_before:
            return False
        try:
            active = self._turn()
        except Exception as error:
            log.exception("%s: a turn failed", self.application.name, extra=self._named)
            self._problem = told(error)
            self._not_before = self._clock() + PAUSE_AFTER_FAILURE_S
            return True
        if active:
            self._problem = None
        return active

    def _turn(self) -> bool:
        try:
            if self._incomplete:
                self._rebuild()
            active = self._read()
        except (LogGap, FileNotFoundError) as error:  # cleaned away, or vacuumed under our feet
            log.warning("%s; the buffer is rebuilt from the table", error, extra=self._named)
            self._rebuild()
            active = True
        except Exception:
            self._incomplete = True
            raise
        stream_time_ms = self._bus.stream_time_ms(self.tail.version)
        if stream_time_ms > self._stream_time_ms:
            self._stream_time_ms = stream_time_ms
            self._changed = True
        self.watch.look(self.learning.ring, self._stream_time_ms)
        now = self._clock()
        self._room.look(self.learning.ring, self._stream_time_ms, now)
        asked_ms = self._asked_to_train_ms()
        asked = asked_ms > self._asked_ms
        if asked or (self._changed and self._cadence.wait_s(now=now, last=self._trained_at) <= 0):
            news = self.learning.news(self._stream_time_ms)
            self._changed = False
            self._asked_ms = asked_ms
            if asked or self._cadence.is_due(now=now, last=self._trained_at, new=news):
                self._trained_at = now
                self._train(asked=asked)
                active = True
        if self.checkpointer.is_due(now):
            self.checkpointer.aside()
        return active

    def wait_s(self) -> float | None:
        """Seconds until a training that waits for the cadence; None where none does."""
        if not self._changed:
            return None
        return self._cadence.wait_s(now=self._clock(), last=self._trained_at)

    def _asked_to_train_ms(self) -> int:
        """When a person last asked for a training, whatever the cadence; 0: never."""
        control = self._bus.control(self.application.name)
        return 0 if control is None else control.retrain_at_ms

    def _train(self, *, asked: bool = False) -> None:
        learning, deployment = self.learning, self.learning.deployment
        plan = next_plan(
            self.application.training,
            learning.version + 1,
            replay_version=self.tail.version,
            stream_time_ms=self._stream_time_ms,
            control=self._bus.control(self.application.name),
            frozen_at_ms=deployment.frozen_at_ms if deployment.frozen else None,
            asked=asked,
            at_ms=self._wall_ms(),
        )
        self._plans.append(plan)
        reach("learner.plan.written")
        if self._traced is not None:
            self._traced.watch(learning)
        candidate = learning.train(plan)
        if candidate is None:
            return
        if self._traced is not None:
            self._traced.trained(
                candidate, learning.traced, began_ms=plan.at_ms, ended_ms=self._wall_ms()
            )
        last = self._last
        last.losses, last.report = candidate.losses, candidate.report.as_dict()
        last.seconds = {"read": self._read_s} | candidate.seconds
        self._read_s = 0.0
        last.refused += not candidate.report.publish
        began = self._clock()
        self.publisher.carry_out(candidate, learning)
        last.seconds["publish"] = self._clock() - began
        self.watch.trained(candidate, plan, self.publisher.run())

    def close(self) -> None:
        """Leave a checkpoint behind."""
        self.checkpointer.now()
        self.watch.close()

    def figures(self, process: str) -> dict[str, Any] | None:
        """A record of `status.v1` for people; None where there is nothing new to tell."""
        evidence = self.learning.evidence
        match = None if evidence is None or not evidence.match.n else evidence.match.mean
        return self.watch.record(process=process, at_ms=self._wall_ms(), match_rate=match)

    def status(self) -> dict[str, Any]:
        """What a person wants to see of this application now."""
        return application_status(
            self.learning,
            self._last,
            decoder=self.reader.decoder,
            room=self._room.status(),
            stream_time_ms=self._stream_time_ms,
            replay_version=self.tail.version,
            newest_replay_version=self._bus.replay_version(),
            published=self.publisher.published,
            problem=self._problem,
        )
