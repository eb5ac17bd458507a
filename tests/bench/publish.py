"""What an event costs on its way from the spool through kafka-python into a real broker.

Decisions and outcomes of ordinary size (half of each) go through a spool and the publisher of
serving, in this process. First all at once, as after an outage; then in small groups at a steady
rate, as in play, where an event has less company and so costs more.

    cpu_us               CPU of an event, append, read, send and acknowledgement; all at once
    append_us            of it, writing to the spool (what an answer waits for)
    events_per_s         published, wall clock, all at once
    paced_cpu_us         CPU of an event at `paced_events_per_s`
    event_bytes          mean size of an event's value
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.settings import Settings
from bakehouse_serving.spool.frames import Record, Topic
from bakehouse_serving.spool.publisher import Publisher, connect, topics
from bakehouse_serving.spool.spool import Spool
from tests.bench.events import decision_event, outcome_event
from tests.bench.measure import Cost, Options, cost_of, median, wait_until
from tests.bench.processes import broker

PACED_PER_S = 1_000
TICK_S = 0.01


def run(options: Options) -> dict[str, Any]:
    """Measure; see the module."""
    count = options.sized(40_000, 4_000)
    rounds = options.sized(5, 2)
    paced_s = options.sized(10.0, 2.0)
    records = events(min(count, 10_000))
    records = (records * (count // len(records) + 1))[:count]
    at_once: list[tuple[Cost, Cost]] = []
    with broker(options.scratch) as (settings, _):
        for at in range(rounds):
            at_once.append(published(settings, options.scratch / f"spool-{at}", records))
            options.say(
                f"round {at + 1} of {rounds}: {at_once[-1][1].cpu_s / count * 1e6:.1f} µs, "
                f"{count / at_once[-1][1].wall_s:.0f} events/s"
            )
        steady = paced(settings, options.scratch / "spool-paced", records, paced_s)
    return {
        "cpu_us": median((append.cpu_s + out.cpu_s) / count * 1e6 for append, out in at_once),
        "append_us": median(append.cpu_s / count * 1e6 for append, _ in at_once),
        "events_per_s": median(count / out.wall_s for _, out in at_once),
        "events_per_core_s": median(count / (a.cpu_s + out.cpu_s) for a, out in at_once),
        "paced_cpu_us": steady.cpu_s / steady.details["events"] * 1e6,
        "paced_events_per_s": steady.details["events"] / steady.wall_s,
        "event_bytes": float(np.mean([len(record.value) for record in records])),
        "events": count * rounds,
    }


def events(count: int) -> list[Record]:
    """Decisions, each followed by an outcome."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count // 2):
        decision_id = uuid7()
        decision = orjson.dumps(decision_event(decision_id, rng))
        outcome = orjson.dumps(outcome_event(decision_id, rng))
        made.append(Record(Topic.DECISIONS, decision_id.encode(), decision))
        made.append(Record(Topic.OUTCOMES, decision_id.encode(), outcome))
    return made


def publisher(settings: Settings, spool: Spool) -> Publisher:
    """Serving's own."""
    return Publisher(
        spool,
        topics=topics(settings),
        status_topic=settings.topic("status"),
        producer=lambda: connect(settings),
    )


def published(settings: Settings, folder: Path, records: list[Record]) -> tuple[Cost, Cost]:
    """Cost of appending one by one, and of publishing all of it."""

    spool = Spool(folder, limit_bytes=4 << 30)
    with cost_of(os.getpid()) as append:
        for record in records:
            spool.append([record])
    thread = publisher(settings, spool)
    thread.start()
    with cost_of(os.getpid()) as out:
        thread.wake()
        wait_until(lambda: spool.drained, 120, "the last acknowledgement")
    thread.stop(5.0)
    spool.close()
    return append, out


def paced(settings: Settings, folder: Path, records: list[Record], seconds: float) -> Cost:
    """Cost of appending and publishing at a steady rate."""

    spool = Spool(folder, limit_bytes=4 << 30)
    thread = publisher(settings, spool)
    thread.start()
    spool.append(records[:10])
    wait_until(lambda: spool.drained, 30, "the first acknowledgement")  # connected and warm
    each = max(1, round(PACED_PER_S * TICK_S))
    sent = 0
    pace = threading.Event()  # never set: waits without spinning
    with cost_of(os.getpid()) as cost:
        began = time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            while sent < PACED_PER_S * elapsed:
                spool.append(records[sent % (len(records) - each) :][:each])
                sent += each
            pace.wait(TICK_S)
        wait_until(lambda: spool.drained, 30, "the last acknowledgement")
    cost.details["events"] = sent
    thread.stop(5.0)
    spool.close()
    return cost
