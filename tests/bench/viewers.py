"""What people who watch the page cost serving, and those who play.

One serving process, a real broker, and records of stream and learner as they come in play: a status
of each a second, and figures of full size (240 buckets of time, 60 candidates) every two. A viewer
is a connection that reads the events of one application as the page does.

    viewer_cpu                  of a core, for one viewer: CPU with one less CPU with none, medians
                                of alternating rounds without players; at most 0.02
    p99_ms, alone_p99_ms        of decisions under open-loop load, with ten viewers and with none
    p99_ratio                   median over pairs of rounds; at most 1.1
    kib_per_s                   what one viewer receives
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import orjson
from kafka import KafkaProducer

from bakehouse_schemas.process.settings import Settings
from tests.bench.decide import BASE
from tests.bench.game import application
from tests.bench.measure import Options, alternate, cost_of, median, median_ratio, percentile
from tests.bench.open_loop import Generator, Load
from tests.bench.policies import write_policy
from tests.bench.processes import broker
from tests.bench.swap import RATE, Server, publisher, serving

MANY = 10
BUCKETS, CANDIDATES = 240, 60


def run(options: Options) -> dict[str, Any]:
    """Measure; see the module."""
    rounds, seconds = options.sized(6, 2), options.sized(15.0, 4.0)
    with broker(options.scratch) as (settings, _), serving(options, settings) as server:
        pointers = iter([write_policy(settings.policies, application, 1)])
        with publisher(settings) as swapper, parts(settings):
            swapper.swap(server, pointers, 1)
            Generator(server.port, rate=RATE, seconds=5.0, seed=99).result()  # warm
            received: list[float] = []

            def idle(viewers: int) -> float:
                with watching(server, viewers) as watched, cost_of(server.pid) as cost:
                    _pass(seconds)
                if viewers:
                    received.append(watched.bytes_read / cost.wall_s / viewers)
                return cost.cpu_s / cost.wall_s

            quiet = alternate(
                rounds,
                {"none": lambda: idle(0), "one": lambda: idle(1)},
                after=lambda what, cores: options.say(f"{what}: {cores:.4f} of a core"),
            )
            seeds = iter(range(1_000))

            def loaded(viewers: int) -> Load:
                with watching(server, viewers):
                    load = Generator(server.port, rate=RATE, seconds=seconds, seed=next(seeds))
                    return load.result()

            busy = alternate(
                rounds,
                {"alone": lambda: loaded(0), "watched": lambda: loaded(MANY)},
                after=lambda what, load: options.say(
                    f"{what}: p99 {percentile(load.latencies_ms, 0.99):.2f} ms"
                ),
            )
    p99 = {
        kind: [percentile(load.latencies_ms, 0.99) for load in loads]
        for kind, loads in busy.items()
    }
    return {
        "viewer_cpu": median(
            one - none for one, none in zip(quiet["one"], quiet["none"], strict=True)
        ),
        "idle_cpu": median(quiet["none"]),
        "p99_ms": median(p99["watched"]),
        "alone_p99_ms": median(p99["alone"]),
        "p99_ratio": median_ratio(p99["watched"], p99["alone"]),
        "p50_ratio": median_ratio(
            *(
                [percentile(load.latencies_ms, 0.5) for load in busy[kind]]
                for kind in ("watched", "alone")
            )
        ),
        "round_p99_ms": p99,
        "viewers": MANY,
        "requests_per_s": RATE,
        "kib_per_s": median(received) / 1024,
        "errors": sum(sum(load.errors.values()) for loads in busy.values() for load in loads),
    }


def _pass(seconds: float) -> None:
    threading.Event().wait(seconds)  # a round is as long as it is


class Watched:
    """Connections that read what they are sent."""

    def __init__(self) -> None:
        self.bytes_read = 0


@contextmanager
def watching(server: Server, viewers: int) -> Iterator[Watched]:
    """So many viewers of the application, all read by one thread.

    Raises:
        ConnectionError: serving has closed one of them.
    """
    watched, done, selector = Watched(), threading.Event(), selectors.DefaultSelector()
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(viewers)]
    for connection in connections:
        connection.sendall(
            f"GET {BASE}/live HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode()
        )
        selector.register(connection, selectors.EVENT_READ)
    closed = []

    def read() -> None:
        while not done.is_set():
            for key, _ in selector.select(timeout=0.5):
                data = key.fileobj.recv(1 << 18)  # type: ignore[union-attr]
                watched.bytes_read += len(data)
                if not data:
                    closed.append(key.fileobj)
                    selector.unregister(key.fileobj)

    thread = threading.Thread(target=read)
    if connections:
        thread.start()
    try:
        yield watched
    finally:
        done.set()
        if connections:
            thread.join()
        for connection in connections:
            connection.close()
        selector.close()
    if closed:
        raise ConnectionError(f"serving closed {len(closed)} of {viewers} viewers")


@contextmanager
def parts(settings: Settings) -> Iterator[None]:
    """Stream and learner as serving hears them."""
    producer = KafkaProducer(**settings.kafka_client(), acks="all")
    topic, done = settings.topic("status"), threading.Event()

    def speak() -> None:
        at = 0
        while not done.wait(1.0):
            for record in (stream(at), learner(at), *([figures(at)] if at % 2 == 0 else [])):
                key = f"{record['part']}/{record['process']}".encode()
                producer.send(topic, key=key, value=orjson.dumps(record))
            at += 1

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        producer.close()


def stream(at: int) -> dict[str, Any]:
    """What stream says of itself."""
    account = dict.fromkeys(("received", "applied"), 1_000 * at)
    return {
        "part": "stream",
        "process": "1",
        "at_ms": _now_ms(),
        "problem": None,
        "batch_ms": {"triggerExecution": 350},
        "kafka_lag_events": 120,
        "replay_version": 2 * at,
        "stream_time_ms": _now_ms() - 900,
        "account": account | dict.fromkeys(("duplicate", "pending", "orphan", "quarantined"), 0),
    }


def learner(at: int) -> dict[str, Any]:
    """What the learner says of itself."""
    its = {
        "candidate": 2 * at,
        "version": 1,
        "experiences": 20_000,
        "matured": 19_000,
        "lag_versions": 0,
        "replay_version": 2 * at,
        "refused": 0,
        "foreign": 0,
        "seconds": {"train": 0.01},
        "problem": None,
        "gate": {"reason": "published"},
    }
    return {
        "part": "learner",
        "process": "2",
        "at_ms": _now_ms(),
        "applications": {application.name: its},
    }


def figures(at: int) -> dict[str, Any]:
    """The learner's figures at full length."""
    rng = np.random.default_rng(at)

    def numbers() -> list[float]:
        return [round(float(value), 4) for value in rng.normal(size=BUCKETS)]

    lines = ("n", "mean", "lower", "upper")
    kinds = ("policy", "holdout", "random")
    series: dict[str, Any] = {kind: {line: numbers() for line in lines} for kind in kinds}
    labels = application.actions.choices
    rule = {"name": "largest golden score", "number": 1.2, "threshold": 30.0, "passed": True}
    candidate = {
        "version": at,
        "at_ms": _now_ms(),
        "published": True,
        "reason": "published; 0.12 (0.05 to 0.2, n = 4000) against version 3",
        "trigger": "120 new rows",
        "rows": 20_000,
        "losses": {"loss": 0.12},
        "rules": [rule] * 6,
    }
    insight = {
        "since_ms": _now_ms(),
        "decisions": 20_000,
        "simulated": 0,
        "lift": {
            "policy": {"n": 18_000, "mean": 0.5, "std": 1.0},
            "holdout": {"n": 2_000, "mean": 0.4, "std": 1.0},
            "difference": {"mean": 0.1, "lower": 0.05, "upper": 0.15},
            "relative": {"mean": 0.25, "lower": 0.1, "upper": 0.4},
            "confidence": 0.95,
            "scale": 1.0,
        },
        "outcomes": {"in_time": 15_000, "late": 10, "never": 4_990},
        "series": series
        | {
            "bucket_ms": 1_000,
            "at_ms": list(range(BUCKETS)),
            "actions": {label: [7] * BUCKETS for label in labels},
        },
        "candidates": [candidate] * CANDIDATES,
    }
    return {
        "part": "learner",
        "process": f"2/insight/{application.name}",
        "at_ms": _now_ms(),
        "application": application.name,
        "insight": insight,
    }


def _now_ms() -> int:
    return int(time.time() * 1000)
