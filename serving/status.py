"""What this process tells of itself: over HTTP, to Prometheus, and once a second to `status.v1`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from serving.hot import HotRoutes
from serving.pipe import Moved
from serving.publisher import Publisher
from serving.served import Served
from serving.spool import Spool
from serving.subscriber import Subscriber

INSIGHT = "/insight/"  # in the key of a record that the learner keeps for the page
# What becomes of a Kafka position: exactly one of these.
OUTCOMES = ("applied", "duplicate", "pending", "orphan", "quarantined")
COUNTERS = {
    "decisions": "decisions answered",
    "outcomes": "outcomes accepted",
    "repeated": "decisions whose id had been answered before",
    "unlogged": "decisions answered by the baseline because the spool was full",
    "rejected": "outcomes rejected",
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
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.process = process
        self.url: str | None = None
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
        self.moved = Moved()  # when things last happened
        self._rates: dict[str, Any] = {
            "decisions_per_s": 0.0,
            "outcomes_per_s": 0.0,
            "handling_ms": {"p50": None, "p99": None, "n": 0},
        }
        self._published = 0
        self._told: Any = None

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
        self._count_applications(seconds)
        status = self.status()
        self._note_moves(status, decided=totals[0] > decisions)
        # The clock, and figures that only age, are no news.
        news = {name: value for name, value in status.items() if name not in _AGEING}
        if news == self._told:
            return None
        self._told = news
        return status

    def _count_applications(self, seconds: float) -> None:
        for name, served in self._served.items():
            figures = served.figures
            now, before = (figures.decisions, figures.outcomes), self._counted.get(name, (0, 0))
            self._counted[name] = now
            self._by_application[name] = {
                "decisions_per_s": round((now[0] - before[0]) / seconds, 1),
                "outcomes_per_s": round((now[1] - before[1]) / seconds, 1),
            }

    def _note_moves(self, status: Mapping[str, Any], *, decided: bool) -> None:
        at_ms, published = status["at_ms"], status["kafka"]["published"]
        if decided:
            self.moved = self.moved._replace(decided_at_ms=at_ms)
        if published != self._published:
            self._published = published
            self.moved = self.moved._replace(published_at_ms=at_ms)
        if not status["spool"]["events"]:
            self.moved = self.moved._replace(spool_empty_at_ms=at_ms)

    def rates(self, name: str) -> dict[str, float]:
        """Decisions and outcomes of one application, a second, over the last second."""
        return self._by_application.get(name, {"decisions_per_s": 0.0, "outcomes_per_s": 0.0})

    def _total(self, counter: str) -> int:
        return sum(getattr(served.figures, counter) for served in self._served.values())

    def application(self, name: str) -> dict[str, Any]:
        """Counters and policy of one application."""
        served = self._served[name]
        return {
            **served.figures.counts(),
            **served.state(),
            "hydration": served.hydrator.state() if served.hydrator else None,
            "freshness_s": served.figures.freshness.summary(self._clock()),
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
                "problem": (publisher and publisher.problem) or (subscriber and subscriber.problem),
            },
            "applications": {name: self.application(name) for name in self._served},
        }

    def account(self) -> dict[str, int]:
        """What stream last said became of all positions; empty before it has said anything."""
        found: dict[str, int] = self.newest("stream").get("account") or {}
        return found if {"received", *OUTCOMES} <= found.keys() else {}

    def newest(self, part: str) -> dict[str, Any]:
        """The latest status of a part; empty before one was heard."""
        said = [status for status in self.others().values() if status["part"] == part]
        return max(said, key=lambda status: int(status["at_ms"]), default={})

    def others(self) -> dict[str, dict[str, Any]]:
        """Latest status of the other parts and processes, by `<part>/<process>`."""
        return {key: said for key, said in self._heard().items() if INSIGHT not in key}

    def insight(self, application: str) -> dict[str, Any] | None:
        """The learner's latest record of figures about an application; None: it has sent none."""
        end = f"{INSIGHT}{application}"
        said = [status for key, status in self._heard().items() if key.endswith(end)]
        return max(said, key=lambda status: int(status["at_ms"]), default=None)

    def _heard(self) -> dict[str, dict[str, Any]]:
        return dict(self._subscriber.statuses) if self._subscriber else {}


_AGEING = ("at_ms", "uptime_s")


class Metrics(Collector):
    """The same figures for Prometheus, read when it asks."""

    def __init__(self, report: StatusReport, served: Mapping[str, Served]) -> None:
        self._report = report
        self._served = served

    def collect(self) -> Iterable[Metric]:
        status = self._report.status()
        applications: dict[str, dict[str, Any]] = status["applications"]
        for counter, meaning in COUNTERS.items():
            family = CounterMetricFamily(f"bakehouse_{counter}", meaning, labels=["application"])
            for name, figures in applications.items():
                family.add_metric([name], figures[counter])
            yield family
        cohorts = CounterMetricFamily(
            "bakehouse_cohort_decisions", "decisions by cohort", labels=["application", "cohort"]
        )
        for name, figures in applications.items():
            for cohort, count in figures["cohorts"].items():
                cohorts.add_metric([name, cohort], count)
        yield cohorts
        for gauge, meaning in (
            ("policy_version", "the policy that answers; 0 is the baseline with exploration"),
            ("swaps", "policies put in place since the start"),
            ("canary_ratio", "share of subjects outside the holdout that the policy answers"),
            ("killed", "1 where every decision is the baseline's"),
        ):
            gauges = GaugeMetricFamily(f"bakehouse_{gauge}", meaning, labels=["application"])
            for name, figures in applications.items():
                gauges.add_metric([name], float(figures[gauge.removesuffix("_ratio")]))
            yield gauges
        yield from self._positions()
        freshness = GaugeMetricFamily(
            "bakehouse_freshness_seconds",
            "from an outcome to the first answer of a policy that knows it, over the last minute",
            labels=["application", "quantile"],
        )
        for name, figures in applications.items():
            for quantile, key in (("0.5", "p50"), ("0.95", "p95")):
                if (value := figures["freshness_s"][key]) is not None:
                    freshness.add_metric([name, quantile], value)
        yield freshness
        for name, value, meaning in (
            ("spool_events", status["spool"]["events"], "events that Kafka has not taken yet"),
            ("spool_bytes", status["spool"]["bytes"], "size of the spool on disk"),
            ("kafka_published", status["kafka"]["published"], "events acknowledged by Kafka"),
            ("kafka_retried", status["kafka"]["retried"], "sends that had to be repeated"),
        ):
            yield GaugeMetricFamily(f"bakehouse_{name}", meaning, value=value)
        handling = status["handling_ms"]
        if handling["p50"] is not None:
            quantiles = GaugeMetricFamily(
                "bakehouse_handling_seconds",
                "time to handle a hot request, over the last second",
                labels=["quantile"],
            )
            quantiles.add_metric(["0.5"], handling["p50"] / 1000)
            quantiles.add_metric(["0.99"], handling["p99"] / 1000)
            yield quantiles

    def _positions(self) -> Iterable[Metric]:
        """What became of every Kafka position that stream has consumed, as it last said."""
        account = self._report.account()
        if not account:
            return
        received = account["received"]
        positions = GaugeMetricFamily(
            "bakehouse_positions",
            "Kafka positions consumed, by what became of them; they add up to those received",
            labels=["outcome"],
        )
        for outcome in OUTCOMES:
            positions.add_metric([outcome], account[outcome])
        yield positions
        left = received - sum(account[outcome] for outcome in OUTCOMES)
        for name, value, meaning in (
            ("positions_received", received, "Kafka positions consumed, counted from offsets"),
            ("positions_unaccounted", left, "received less the others: anything but 0 is a fault"),
        ):
            yield GaugeMetricFamily(f"bakehouse_{name}", meaning, value=value)
