"""`python -m stream REF…`: the stream part of a stack, from start to clean stop."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from kafka.errors import KafkaError

from bakehouse_schemas.application.application import Application, Episodic
from bakehouse_schemas.contracts.known import note_contracts
from bakehouse_schemas.errors import BakehouseError, StackError
from bakehouse_schemas.events.events import Progress
from bakehouse_schemas.loading import load_applications
from bakehouse_schemas.process.boot import boot_id
from bakehouse_schemas.process.logs import set_up_logs
from bakehouse_schemas.process.phase import READY, PhaseFile
from bakehouse_schemas.process.private import make_home, write_privately
from bakehouse_schemas.process.settings import Settings, load_settings
from bakehouse_schemas.process.spans import open_tracer
from bakehouse_stream.kafka.broker import Broker
from bakehouse_stream.kafka.checkpoints import Checkpoint, fingerprint
from bakehouse_stream.kafka.decode import known_contracts
from bakehouse_stream.kafka.orders import Orders
from bakehouse_stream.kafka.stream_time import StreamTime, events_between, reaches
from bakehouse_stream.queries.query import ReplayQuery
from bakehouse_stream.queries.query_restarts import QueryRestarts
from bakehouse_stream.session import STATE_PARTITIONS, start_session
from bakehouse_stream.tables.log_recovery import recover_tables
from bakehouse_stream.tables.tables import add_columns, create_tables, tables_exist
from bakehouse_stream.tables.text_ids import text_ids_of
from bakehouse_stream.upkeep.maintenance import Maintenance
from bakehouse_stream.upkeep.quarantined import wish_of
from bakehouse_stream.upkeep.requeue import requeue_of

JARS_VARIABLE = "BAKEHOUSE_SPARK_JARS"
HEARTBEAT_S = 0.5
STATUS_S = 1.0
DRAIN_S = 20.0  # a clean stop works off what is there, for this long at most
SLACK_MS = 5_000  # heartbeats go on for this long after the last thing has become due

log = logging.getLogger("stream")


def horizon_ms(applications: Mapping[str, Application]) -> int:
    """How long after its last record an application can still have something become due."""
    longest = timedelta(0)
    for application in applications.values():
        longest = max(longest, application.reward.window)
        if isinstance(application.problem, Episodic):
            longest = max(longest, application.problem.timeout)
    return int(longest.total_seconds() * 1000) + SLACK_MS


class Stream:
    """The running part: the query, its heartbeat, its status, and maintenance beside it."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        query: ReplayQuery,
        restarts: QueryRestarts,
        time_: StreamTime,
        maintenance: Maintenance,
        woken: threading.Event,
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._query = query
        self._restarts = restarts
        self._time = time_
        self._maintenance = maintenance
        self._woken = woken
        self._bridging = False
        self._batches = 0
        self._lag_events: int | None = None  # at the last heartbeat
        self._process = str(os.getpid())
        self._last_heartbeat = 0.0
        self._last_status = 0.0
        self._reported: Any = None

    def run(self, stopping: Callable[[], bool]) -> None:
        """Follow the query until `stopping`; while nothing is open, sleep until woken.

        Raises:
            StackError: the query dies whenever it is begun.
        """
        while not stopping():
            self._restarts.check()
            self.follow()
            busy = self._time.is_open or not self._restarts.is_alive
            self._woken.wait(timeout=HEARTBEAT_S if busy else None)
            self._woken.clear()

    def follow(self) -> None:
        """One round: take note of applied batches, move time, say how it goes."""
        if self._query.counts.batches != self._batches:
            self._batches = self._query.counts.batches
            self._time.stir()
            self._maintenance.stir()
        moved = self._advance()
        now = time.monotonic()
        due = now - self._last_heartbeat >= HEARTBEAT_S * 0.9
        try:
            if moved or (due and self._time.is_open):
                self._last_heartbeat = now
                self._beat()
            if now - self._last_status >= STATUS_S * 0.9:
                self._last_status = now
                self._report()
        except KafkaError as error:
            log.warning("the broker does not answer (%s); nothing is lost, trying on", error)

    def _advance(self) -> bool:
        """Move stream time, but not across a gap before repair has bridged it."""
        applied, version = self._query.applied
        if self._restarts.gap is not None:
            if not reaches(applied, self._restarts.gap):
                self._bridging = False
                return False
            if not self._bridging:
                self._bridging = True
                self._maintenance.begin_bridge()
            if not self._maintenance.is_bridged:
                return False
            self._restarts.gap, self._bridging = None, False
        return self._time.advance(applied, version)

    def _beat(self) -> None:
        offsets, _ = self._query.applied
        progress = Progress(
            stream_time_ms=self._time.now_ms,
            replay_version=self._time.version,
            committed={topic: dict(partitions) for topic, partitions in offsets.items()},
            applied_ms=time.time_ns() // 1_000_000,
        )
        acknowledged_ms = self._broker.publish_progress(progress)
        ends = self._broker.ends()
        self._lag_events = events_between(self._query.applied[0], ends)
        self._time.heartbeat(acknowledged_ms, ends)
        self._advance()  # an idle query has applied everything already

    def _report(self) -> None:
        status = self.status()
        said = {name: value for name, value in status.items() if name != "at_ms"}
        if said == self._reported:
            return
        self._reported = said
        self._broker.publish_status(self._process, status)

    def status(self) -> dict[str, Any]:
        """What `status.v1` says of this part."""
        counts = self._query.counts
        progress = self._query.last_progress() or {}
        _, version = self._query.applied
        return {
            "part": "stream",
            "process": self._process,
            "at_ms": time.time_ns() // 1_000_000,
            "phase": READY,
            "problem": self._restarts.problem,
            "lives": self._restarts.starts,
            "batches": counts.batches,
            "batch_ms": dict(progress.get("durationMs", {}))
            | {"collect": round(counts.collect_s * 1e3), "commit": round(counts.commit_s * 1e3)},
            "kafka_lag_events": self._lag_events,
            "input_rows": progress.get("numInputRows", 0),
            "replay_rows": counts.rows["replay"],
            "outcome_rows": counts.rows["outcome"],
            "quarantined_rows": counts.rows["quarantined"],
            "replay_version": version,
            "stream_time_ms": self._time.now_ms,
            **self._maintenance.status(),
        }

    def drain(self) -> bool:
        """Wait until everything that the broker has is applied; whether it was in time."""
        give_up = time.monotonic() + DRAIN_S
        try:
            ends = self._broker.ends()
        except KafkaError as error:
            log.warning(
                "stopping without the broker (%s); the rest is read at the next start", error
            )
            return False
        while not reaches(self._query.applied[0], ends):
            if not self._restarts.is_alive or time.monotonic() > give_up:
                return False
            self._woken.wait(timeout=0.2)
            self._woken.clear()
        return True

    def say_last(self) -> None:
        """Publish where things stand, once more."""
        try:
            self._restarts.gap = None  # the last repair is done
            self._beat()
            self._beat()
            self._broker.publish_status(self._process, self.status())
        except KafkaError as error:
            log.warning("the last status was not published: %s", error)


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM (then 0, cleanly), or until nothing helps (then 1)."""
    parser = argparse.ArgumentParser(prog="python -m bakehouse_stream", description=__doc__)
    parser.add_argument(
        "refs", nargs="+", metavar="REF", help="path/to/file.py or module:attribute"
    )
    refs = parser.parse_args(arguments).refs
    set_up_logs("stream", "text", to=sys.stdout)
    stop = threading.Event()
    woken = threading.Event()

    def on_signal(*_: object) -> None:
        stop.set()
        woken.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    try:
        settings = load_settings()
        set_up_logs("stream", settings.log_format, to=sys.stdout)
        write_privately()
        make_home(settings.home)
        return run(settings, refs, stop=stop, woken=woken)
    except BakehouseError as error:
        log.error("the stream cannot start: %s", error)
        return 2


def published_offsets(broker: Broker) -> dict[str, dict[str, int]]:
    """What `progress.v1` says was applied, for a home that has lost its own note of it."""
    last = broker.last_progress()
    return last.committed if last is not None else {}


def connect(settings: Settings, stopping: Callable[[], bool]) -> Broker | None:
    """A connection, as soon as a broker answers; None where a stop came first."""
    said = False
    while not stopping():
        try:
            broker = Broker(settings)
            broker.ends()
        except KafkaError as error:
            if not said:
                log.warning("no Kafka answers yet (%s); waiting for it", error)
            said = True
        else:
            return broker
    return None


def run(
    settings: Settings, refs: list[str], *, stop: threading.Event, woken: threading.Event
) -> int:
    """The part's life; returns its exit status."""
    phase = PhaseFile(settings.home, "stream")
    phase.announce("loading applications")
    applications = {name: one.application for name, one in load_applications(refs).items()}
    note_contracts(settings.home, applications.values())
    known = known_contracts(settings.home, applications)
    tracer = open_tracer(settings, "stream", process=str(os.getpid()))
    phase.announce("waiting for Kafka")
    broker = connect(settings, stop.is_set)
    if broker is None:
        return 0
    phase.announce("starting Spark")
    jars = [jar for jar in os.environ.get(JARS_VARIABLE, "").split(",") if jar]
    spark = start_session(settings, jars=jars)
    checkpoint = Checkpoint(
        settings.home,
        fingerprint(
            spark_version=spark.version,
            retention_ms=int(settings.join_retention_minutes * 60_000),
            state_partitions=STATE_PARTITIONS,
        ),
        boot=boot_id(),
    )
    phase.announce("opening tables")
    if checkpoint.rewound:
        recover_tables(settings)
    if not tables_exist(settings):
        create_tables(settings, first_offsets=broker.beginnings())
        checkpoint.renew(forget=True)
    elif not checkpoint.applied and not checkpoint.rewound:
        checkpoint.note_applied(published_offsets(broker))
    for table, version in add_columns(settings).items():
        log.info("%s has the columns of this release since version %d", table, version)
    text_ids = text_ids_of(
        settings.home, applications.values(), retention_days=settings.replay_retention_days
    )
    requeue = requeue_of(settings, applications, text_ids, rewound=checkpoint.rewound)
    requeue.recover()  # before the query asks in which hour the ids of those rows lie
    query = ReplayQuery(
        spark,
        settings,
        refs,
        checkpoint,
        on_batch=woken.set,
        text_ids=text_ids,
        tracer=tracer,
        known=known,
    )
    time_ = StreamTime(horizon_ms=horizon_ms(applications))
    maintenance = Maintenance(
        spark,
        settings,
        query,
        requeue=requeue,
        stream_time_ms=lambda: time_.now_ms,
        on_news=woken.set,
    )
    orders = Orders(settings, {"requeue": lambda order: maintenance.ask(wish_of(order))})
    restarts = QueryRestarts(query, checkpoint, broker, woken=woken)
    phase.announce("starting the query")
    restarts.check()
    maintenance.start()
    orders.start()
    part = Stream(settings, broker, query, restarts, time_, maintenance, woken)
    phase.announce(READY)
    try:
        part.run(stop.is_set)
    except StackError as error:
        log.error("%s", error)
        return 1
    phase.announce("stopping")
    orders.stop()
    if restarts.is_alive:
        part.drain()
    query.stop()
    maintenance.stop()
    maintenance.finish()
    part.say_last()
    if tracer is not None:
        tracer.stop()
    broker.close()
    spark.stop()
    return 0
