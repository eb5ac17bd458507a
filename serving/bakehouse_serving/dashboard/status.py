"""The status of this process: over HTTP, and once a second to `status.v1`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bakehouse_schemas.replay.account import OUTCOMES
from bakehouse_serving.counters import Durations
from bakehouse_serving.dashboard.stage import Activity
from bakehouse_serving.dashboard.waits import Waits
from bakehouse_serving.hot.routes import HotRoutes
from bakehouse_serving.policies.served import Served
from bakehouse_serving.policies.subscriber import Subscriber
from bakehouse_serving.spool.publisher import Publisher
from bakehouse_serving.spool.spool import Spool

INSIGHT = "/insight/"  # in the key of a record that the learner keeps for the dashboard
NO_KAFKA = "no address is set: BAKEHOUSE_KAFKA_BOOTSTRAP"
COUNTERS = {
    "decisions": "decisions answered",
    "outcomes": "outcomes accepted",
    "repeated": "decisions whose id had been answered before",
    "unlogged": "decisions answered by the baseline because the spool was full",
    "rejected": "outcomes rejected",
    "uncounted": "outcomes accepted that no reward, guardrail or kind counts",
    "invalid": "requests and decisions refused as invalid",
    "explored": "decisions whose action was not the policy's most probable one",
    "baseline_failed": "decisions for which the baseline gave no usable action",
    "hydration_misses": "decisions whose subject was not found where features are looked up",
    "hydration_timeouts": "decisions for which looking features up took too long",
    "hydration_failed": "decisions for which looking features up failed, or gave a wrong value",
}


class StatusReport:
    """Puts the figures of all parts of this process together.

    Args:
        process: name of this process within its home.
        publisher, subscriber: None: no broker is named.
        home: where a stack's supervisor says what the other parts are busy with; None: nowhere.
        clock: seconds since 1970, UTC.
    """

    def __init__(
        self,
        process: str,
        *,
        served: Mapping[str, Served],
        hot: HotRoutes,
        spool: Spool,
        publisher: Publisher | None,
        subscriber: Subscriber | None,
        home: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.process = process
        self.url: str | None = None
        self.durations = Durations(hot.timings)
        self._served = served
        self._hot = hot
        self._spool = spool
        self._publisher = publisher
        self._subscriber = subscriber
        self._clock = clock
        self._started = clock()
        self._before: tuple[float, int, int, int] = (self._started, 0, 0, 0)
        self._counted: dict[str, tuple[int, int]] = {}  # decisions, outcomes by application
        self._by_application: dict[str, dict[str, float]] = {}
        started_ms = int(self._started * 1000)
        self.activity = Activity(kafka_at_ms=started_ms)  # when things last happened
        self.waits = Waits(home, started_ms=started_ms)
        self._rates: dict[str, Any] = {
            "decisions_per_s": 0.0,
            "outcomes_per_s": 0.0,
            "handling_ms": {"p50": None, "p99": None, "n": 0},
        }
        self._published = 0
        self._appended = 0
        self._unpublished = False  # decisions or outcomes have come that Kafka has not taken yet
        self._reported: Any = None

    def tick(self) -> dict[str, Any] | None:
        """To be called about once a second: the status, or None where nothing has changed."""
        now = self._clock()
        at, decisions, outcomes, timed = self._before
        totals = (self._total("decisions"), self._total("outcomes"), self._hot.timings.count)
        seconds = max(now - at, 1e-3)
        self._rates = {
            "decisions_per_s": round((totals[0] - decisions) / seconds, 1),
            "outcomes_per_s": round((totals[1] - outcomes) / seconds, 1),
            "handling_ms": self._hot.timings.since(timed),
        }
        self._before = (now, *totals)
        self.durations.take()
        self._count_applications(seconds)
        status = self.status()
        come = totals[0] > decisions or totals[1] > outcomes
        self._note_activity(status, decided=totals[0] > decisions, come=come)
        # The clock, and figures that only age, are no news.
        news = {name: value for name, value in status.items() if name not in _AGEING}
        if news == self._reported:
            return None
        self._reported = news
        return status

    def _count_applications(self, seconds: float) -> None:
        for name, served in self._served.items():
            figures = served.counters
            now, before = (figures.decisions, figures.outcomes), self._counted.get(name, (0, 0))
            self._counted[name] = now
            self._by_application[name] = {
                "decisions_per_s": round((now[0] - before[0]) / seconds, 1),
                "outcomes_per_s": round((now[1] - before[1]) / seconds, 1),
            }

    def _note_activity(self, status: Mapping[str, Any], *, decided: bool, come: bool) -> None:
        at_ms, kafka, waiting = status["at_ms"], status["kafka"], status["spool"]["events"]
        happened: dict[str, int] = {}
        if decided:
            happened["decided_at_ms"] = at_ms
        if published := kafka["published"] != self._published:
            self._published = kafka["published"]
            happened["published_at_ms"] = at_ms
        # under any traffic there may be something on its way; what came since the last look flows
        came, self._appended = self._spool.appended - self._appended, self._spool.appended
        if waiting <= came:
            happened["spool_flows_at_ms"] = at_ms
        # controls are published too, and no work for anyone
        self._unpublished |= come
        news = self._unpublished and published
        self._unpublished &= bool(waiting)
        self.waits.look(
            at_ms,
            published=news,
            stream=self.newest("stream"),
            learners={name: self.newest("learner", name) for name in self._served},
        )
        if (kafka["connected"] and kafka["listening"]) or self.waits.broker_starts:
            happened["kafka_at_ms"] = at_ms
        self.activity = self.activity._replace(**happened)

    def rates(self, name: str) -> dict[str, float]:
        """Decisions and outcomes of one application, a second, over the last second."""
        return self._by_application.get(name, {"decisions_per_s": 0.0, "outcomes_per_s": 0.0})

    def _total(self, counter: str) -> int:
        return sum(getattr(served.counters, counter) for served in self._served.values())

    def application(self, name: str) -> dict[str, Any]:
        """Counters and policy of one application."""
        served = self._served[name]
        return {
            **served.counters.counts(),
            **served.state(),
            "hydration": served.hydrator.state() if served.hydrator else None,
            "freshness_s": served.counters.freshness.summary(self._clock()),
        }

    def status(self) -> dict[str, Any]:
        """The value of a `status.v1` record."""
        now = self._clock()
        publisher, subscriber = self._publisher, self._subscriber
        return {
            "part": "serving",
            "process": self.process,
            "at_ms": int(now * 1000),
            "url": self.url,
            "uptime_s": round(now - self._started, 1),
            **{name: self._total(name) for name in COUNTERS},
            **self._rates,
            "spool": {
                "events": self._spool.waiting,
                "bytes": self._spool.bytes_on_disk,
                "bytes_limit": self._spool.limit_bytes,
                "recovered": self._spool.recovered,
                "damaged": self._spool.damaged,
            },
            "kafka": {
                "published": publisher.published if publisher else 0,
                "retried": publisher.failures if publisher else 0,
                "refused": publisher.refused if publisher else 0,
                "connected": bool(publisher and publisher.connected and not publisher.problem),
                "listening": bool(subscriber and subscriber.listening),
                "problem": (publisher and publisher.problem)
                or (subscriber and subscriber.problem)
                or (None if publisher else NO_KAFKA),
            },
            "applications": {name: self.application(name) for name in self._served},
        }

    def account(self) -> dict[str, int]:
        """What became of all positions, as stream last reported; empty before it has."""
        found: dict[str, int] = self.newest("stream").get("account") or {}
        return found if {"received", *OUTCOMES} <= found.keys() else {}

    def newest(self, part: str, application: str | None = None) -> dict[str, Any]:
        """The latest status of a part; empty before it has reported one.

        Args:
            application: that it must report on: each may have a learner of its own.
        """
        statuses = [
            status
            for status in self.others().values()
            if status["part"] == part
            and (application is None or application in _mapping(status.get("applications")))
        ]
        return max(statuses, key=lambda status: int(status["at_ms"]), default={})

    def others(self) -> dict[str, dict[str, Any]]:
        """Latest status of the other parts and processes, by `<part>/<process>`."""
        return {key: status for key, status in self._received().items() if INSIGHT not in key}

    def insight(self, application: str) -> dict[str, Any] | None:
        """The learner's latest record of figures about an application; None: it has sent none."""
        end = f"{INSIGHT}{application}"
        records = [status for key, status in self._received().items() if key.endswith(end)]
        return max(records, key=lambda status: int(status["at_ms"]), default=None)

    def _received(self) -> dict[str, dict[str, Any]]:
        return dict(self._subscriber.statuses) if self._subscriber else {}


def _mapping(value: Any) -> Mapping[str, Any]:
    """What another part reported, where it is of the kind that is expected."""
    return value if isinstance(value, Mapping) else {}


_AGEING = ("at_ms", "uptime_s")
