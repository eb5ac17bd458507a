"""What Prometheus reads: figures of this process, and of stream and learner as last reported.

So one scrape of serving covers the loop. Labels are applications, parts and a few fixed words:
never a subject, a decision or anything else of which there are many. Where several serving
processes are scraped, each repeats what the others reported; take `max`, not `sum`, of those.
`docs/alerts.md` says what to do when a figure is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from bakehouse_schemas.replay.account import NO_RECORD, terms, unaccounted
from bakehouse_serving.counters import Durations
from bakehouse_serving.dashboard.live import Live
from bakehouse_serving.dashboard.status import COUNTERS, StatusReport
from bakehouse_serving.policies.served import Served

Fields = Mapping[str, Any]

# gauge, field of an application in this process's own status, meaning
OF_APPLICATION = (
    ("policy_version", "policy_version", "the policy that answers; 0: baseline with exploration"),
    ("swaps", "swaps", "policies put in place since the start"),
    ("canary_ratio", "canary", "share of subjects outside the holdout that the policy answers"),
    ("killed", "killed", "1 where every decision is the baseline's"),
    ("frozen", "frozen", "1 where a person keeps the policy as it is"),
)
OF_PROCESS = (
    ("uptime_seconds", ("uptime_s",), "since the start of this process"),
    ("spool_events", ("spool", "events"), "events that Kafka has not taken yet"),
    ("spool_bytes", ("spool", "bytes"), "size of the spool on disk"),
    ("spool_limit_bytes", ("spool", "bytes_limit"), "the size from which on nothing is logged"),
    ("kafka_published", ("kafka", "published"), "events acknowledged by Kafka"),
    ("kafka_retried", ("kafka", "retried"), "sends that had to be repeated"),
    ("kafka_refused", ("kafka", "refused"), "events that Kafka will never take"),
    ("kafka_connected", ("kafka", "connected"), "1 while events can be published"),
    ("kafka_listening", ("kafka", "listening"), "1 while policies and controls are heard"),
)
OF_STREAM = (
    ("kafka_lag_events", ("kafka_lag_events",), "events in Kafka that are in no table yet"),
    ("replay_version", ("replay_version",), "version of the replay table"),
    ("stream_lives", ("lives",), "how often the query has been begun in this process"),
    ("stream_waiting_outcomes", ("waiting_outcomes",), "outcomes whose decision is not there"),
    ("stream_repaired_outcomes", ("repaired",), "outcomes that repair has brought to replay"),
)
OF_LEARNER = (
    ("learner_version", ("candidate",), "of the newest candidate"),
    ("learner_rows", ("experiences",), "decisions in the buffer"),
    ("learner_lag_versions", ("lag_versions",), "versions of the replay table not yet read"),
    ("learner_gate_frozen", ("frozen",), "1 where the gate has frozen, until someone looks"),
    ("match_ratio", ("match_rate",), "how often the policy answers what an apprentice's rules do"),
)
COUNTED_BY_LEARNER = (
    ("learner_trainings", ("trainings",), "trainings"),
    ("learner_candidates_published", ("published",), "candidates that players got"),
    ("learner_candidates_refused", ("candidates_refused",), "candidates that the gate kept back"),
)
# name, label, field of an insight, values of the label and their fields, meaning
OF_INSIGHT = (
    (
        *("lift_difference", "bound", ("lift", "difference"), ("mean", "lower", "upper")),
        "reward of a decision, policy less holdout; bounds that hold at every look",
    ),
    (
        *("lift_ratio", "bound", ("lift", "relative"), ("mean", "lower", "upper")),
        "the same as a share of the holdout's reward",
    ),
    (
        *("matured_decisions", "outcomes", ("outcomes",), ("in_time", "late", "never")),
        "decisions whose window is over, by when their outcomes came",
    ),
    (
        *("exploration_ratio", "share", ("exploration",), ("observed", "expected")),
        "share of decisions that explored, and what settings foretell",
    ),
    (
        *("sample_ratio", "share", ("trust", "sample_ratio"), ("observed", "expected")),
        "share of subjects in the holdout, and what settings say",
    ),
    (
        "propensity_audit_decisions",
        *("result", ("trust", "audit"), ("equal", "different", "unavailable")),
        "decisions whose propensity was recomputed from the recorded policy",
    ),
)
OF_INSIGHT_ALONE: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "sample_ratio_p_value",
        ("trust", "sample_ratio", "p_value"),
        "where small, subjects do not fall into the holdout as they should",
    ),
    (
        "excluded_action_violations",
        ("trust", "excluded", "violations"),
        "decisions with an action that their request had excluded",
    ),
)


class Metrics(Collector):
    """Reads the status when Prometheus asks.

    Args:
        live: what the dashboard shows at the same time.
    """

    def __init__(self, report: StatusReport, served: Mapping[str, Served], live: Live) -> None:
        self._report = report
        self._served = served
        self._live = live

    def collect(self) -> Iterable[Metric]:
        """All families; none of what nobody has reported."""
        status = self._report.status()
        applications: dict[str, dict[str, Any]] = status["applications"]
        yield from _of_applications(applications)
        yield from self._policies(status["at_ms"])
        for name, path, meaning in OF_PROCESS:
            yield from _gauge(name, meaning, {(): _number(status, *path)})
        yield _handled(self._report.durations)
        yield from _handled_lately(status["handling_ms"])
        yield from self._freshness(applications)
        yield from self._positions()
        yield from self._stream(status["at_ms"])
        yield from self._learner()
        not_learning = self._live.not_learning()
        yield from _gauge(
            "learns",
            "1 where decisions are learned from; 0 where the pipe is blocked, or has not spoken",
            {(name,): float(name not in not_learning) for name in self._served},
            ("application",),
        )
        yield from self._insights()

    def _policies(self, now_ms: int) -> Iterable[Metric]:
        ages: dict[tuple[str, ...], float | None] = {}
        refused: dict[tuple[str, ...], float | None] = {}
        for name, served in self._served.items():
            policy = served.slot.policy
            if policy is not None:
                ages[(name,)] = max(now_ms - policy.manifest.created_at_ms, 0) / 1000
            refused[(name,)] = served.last_refused_at_ms / 1000
        labels = ("application",)
        online = {
            (name,): float(one.application.mode == "online") for name, one in self._served.items()
        }
        yield from _gauge(
            "online",
            "1 where the policy may answer: no apprentice, no logging only",
            online,
            labels,
        )
        yield from _gauge("policy_age_seconds", "since the policy was made", ages, labels)
        yield from _gauge(
            "policy_refused_timestamp_seconds",
            "when a published policy could last not be used; 0: never",
            *(refused, labels),
        )

    def _freshness(self, applications: Mapping[str, Fields]) -> Iterable[Metric]:
        yield from _gauge(
            "freshness_seconds",
            "from an outcome to the first answer of a policy that knows it, over the last minute",
            {
                (name, quantile): _number(figures, "freshness_s", key)
                for name, figures in applications.items()
                for quantile, key in (("0.5", "p50"), ("0.95", "p95"))
            },
            ("application", "quantile"),
        )
        yield from _gauge(
            "freshness_target_seconds", "what is wanted of it", {(): self._live.freshness_target_s}
        )

    def _positions(self) -> Iterable[Metric]:
        """What became of every Kafka position that stream has consumed, as last reported."""
        account = self._report.account()
        if not account:
            return
        received = account["received"]
        yield from _gauge(
            "positions",
            "Kafka positions consumed, by what became of them; they add up to those received",
            {(outcome,): float(n) for outcome, n in ({NO_RECORD: 0} | terms(account)).items()},
            ("outcome",),
        )
        for name, value, meaning in (
            ("positions_received", received, "Kafka positions consumed, counted from offsets"),
            (
                "positions_unaccounted",
                unaccounted(account),
                "received less the others: anything but 0 is a fault",
            ),
        ):
            yield from _gauge(name, meaning, {(): float(value)})

    def _stream(self, now_ms: int) -> Iterable[Metric]:
        parts = {part: self._report.newest(part) for part in ("stream", "learner")}
        yield from _gauge(
            "part_age_seconds",
            "since a part last said anything; idle parts say nothing",
            {
                (part,): max(now_ms - status["at_ms"], 0) / 1000
                for part, status in parts.items()
                if status
            },
            ("part",),
        )
        yield from _gauge(
            "part_problem",
            "1 where a part says that something is in its way",
            {(part,): float(bool(_problem(status))) for part, status in parts.items() if status},
            ("part",),
        )
        stream = parts["stream"]
        for name, path, meaning in OF_STREAM:
            yield from _gauge(name, meaning, {(): _number(stream, *path)})
        batch_ms = _number(stream, "batch_ms", "triggerExecution")
        yield from _gauge(
            "stream_batch_seconds",
            "how long the last batch took",
            {(): None if batch_ms is None else batch_ms / 1000},
        )

    def _learner(self) -> Iterable[Metric]:
        learners: Mapping[str, Fields] = self._report.newest("learner").get("applications") or {}
        for name, path, meaning in OF_LEARNER:
            yield from _gauge(
                name,
                meaning,
                {(each,): _number(status, *path) for each, status in learners.items()},
                ("application",),
            )
        open_decisions = {(each,): _open(status) for each, status in learners.items()}
        yield from _gauge(
            "learner_open_decisions",
            "decisions in the buffer whose window is not over",
            *(open_decisions, ("application",)),
        )
        for name, path, meaning in COUNTED_BY_LEARNER:
            counter = CounterMetricFamily(f"bakehouse_{name}", meaning, labels=["application"])
            for each, status in learners.items():
                if (value := _number(status, *path)) is not None:
                    counter.add_metric([each], value)
            yield counter

    def _insights(self) -> Iterable[Metric]:
        found = {name: (self._report.insight(name) or {}).get("insight") for name in self._served}
        insights: dict[str, Fields] = {name: insight for name, insight in found.items() if insight}
        for name, label, path, values, meaning in OF_INSIGHT:
            yield from _gauge(
                name,
                meaning,
                {
                    (each, value): _number(insight, *path, value)
                    for each, insight in insights.items()
                    for value in values
                },
                ("application", label),
            )
        for name, fields, meaning in OF_INSIGHT_ALONE:
            yield from _gauge(
                name,
                meaning,
                {(each,): _number(insight, *fields) for each, insight in insights.items()},
                ("application",),
            )


def _of_applications(applications: Mapping[str, Fields]) -> Iterable[Metric]:
    """Counters and states of this process."""
    for counter, meaning in {**COUNTERS, "simulated": "decisions for simulated players"}.items():
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
    for gauge, field, meaning in OF_APPLICATION:
        values = {(name,): _number(figures, field) for name, figures in applications.items()}
        yield from _gauge(gauge, meaning, values, ("application",))


def _handled(durations: Durations) -> Metric:
    counts = durations.take()
    bounds = [*map(str, durations.BOUNDS_S), "+Inf"]
    return HistogramMetricFamily(
        "bakehouse_request_seconds",
        "time to handle a hot request: decisions and outcomes",
        buckets=list(zip(bounds, counts, strict=True)),
        sum_value=durations.sum_s,
    )


def _handled_lately(handling_ms: Fields) -> Iterable[Metric]:
    lately: dict[tuple[str, ...], float | None]
    lately = {("0.5",): handling_ms["p50"], ("0.99",): handling_ms["p99"]}
    yield from _gauge(
        "handling_seconds",
        "time to handle a hot request, over the last second",
        {quantile: None if value is None else value / 1000 for quantile, value in lately.items()},
        ("quantile",),
    )


def _gauge(
    name: str,
    meaning: str,
    values: Mapping[Any, float | None],
    labels: tuple[str, ...] = (),
) -> Iterable[Metric]:
    """One family; what is not known is left out, and a family of nothing too."""
    known = {labelled: value for labelled, value in values.items() if value is not None}
    if not known:
        return
    family = GaugeMetricFamily(f"bakehouse_{name}", meaning, labels=labels)
    for labelled, value in known.items():
        family.add_metric(labelled, value)
    yield family


def _number(fields: Any, *path: str) -> float | None:
    """The number at a path of fields; None where there is none: parts differ by release."""
    for field in path:
        fields = fields.get(field) if isinstance(fields, Mapping) else None
    return float(fields) if isinstance(fields, bool | int | float) else None


def _open(status: Fields) -> float | None:
    rows, matured = _number(status, "experiences"), _number(status, "matured")
    return None if rows is None or matured is None else rows - matured


def _problem(status: Fields) -> Any:
    """What a part, or one of its applications, reports as its problem."""
    each = (status.get("applications") or {}).values()
    return status.get("problem") or any(one.get("problem") for one in each)
