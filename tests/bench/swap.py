"""Latency with and without swaps of the policy, under open-loop load.

One serving process and a real broker. In alternating rounds the same load (Poisson arrivals,
latency counted from the intended time, generator in a process of its own) meets a server that
swaps its policy five times a second, twice and a half as often as the default cadence can, and
one that does not swap. Bundles are written beforehand; a swap is what it is in play: pointer from
Kafka, bundle read and checked, slot replaced.

    swaps, errors               in all; errors are answers that were not 200, or did not come
    p99_ms, steady_p99_ms       medians over rounds, with and without swaps
    p99_ratio                   median over pairs of rounds; at most 1.2
    memory_growth_mb            of the serving process (USS), from warm to the end; at most 20
    swap_ms                     pointer sent to slot replaced, p50 and p95
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
from kafka import KafkaProducer

from bakehouse_schemas.events.events import PolicyPointer
from bakehouse_schemas.process.phase import READY, PhaseFile
from bakehouse_schemas.process.settings import Settings
from tests.bench.decide import BASE
from tests.bench.game import REF, application
from tests.bench.measure import (
    Options,
    alternate,
    median,
    median_ratio,
    memory_mb,
    percentile,
    wait_until,
)
from tests.bench.open_loop import Generator, Load
from tests.bench.policies import write_policy
from tests.bench.processes import alive, broker, process

RATE = 300.0  # requests a second
SWAPS_PER_S = 5.0
WARM_SWAPS = 20


class Server(NamedTuple):
    """A serving process."""

    pid: int
    port: int
    url: str


def run(options: Options) -> dict[str, Any]:
    """Measure; see the module."""
    rounds = options.sized(5, 2)
    each = options.sized(200, 10)
    loads: dict[str, list[Load]]
    with broker(options.scratch) as (settings, _), serving(options, settings) as server:
        pointers = [
            write_policy(settings.policies, application, version)
            for version in range(1, WARM_SWAPS + rounds * each + 1)
        ]
        left = iter(pointers)
        with publisher(settings) as swapper:
            warm = Generator(server.port, rate=RATE, seconds=WARM_SWAPS / SWAPS_PER_S, seed=99)
            swapper.swap(server, left, WARM_SWAPS)
            warm.result()
            swapper.took_ms.clear()
            memory = memory_mb(server.pid)
            options.say(f"warm: {memory:.1f} MiB")
            seeds = iter(range(1000))

            def round_of(swaps: int) -> Load:
                generator = Generator(
                    server.port, rate=RATE, seconds=each / SWAPS_PER_S, seed=next(seeds)
                )
                swapper.swap(server, left, swaps)
                return generator.result()

            loads = alternate(
                rounds,
                {"steady": lambda: round_of(0), "swapping": lambda: round_of(each)},
                after=lambda what, load: options.say(
                    f"{what}: p99 {percentile(load.latencies_ms, 0.99):.2f} ms, "
                    f"{len(load.versions)} versions, {memory_mb(server.pid):.1f} MiB"
                ),
            )
            growth = memory_mb(server.pid) - memory
            swaps = policy_of(server)["swaps"] - WARM_SWAPS
    p99 = {
        kind: [percentile(load.latencies_ms, 0.99) for load in found]
        for kind, found in loads.items()
    }
    every = [load for found in loads.values() for load in found]
    errors: dict[str, int] = {}
    for load in every:
        for what, count in load.errors.items():
            errors[what] = errors.get(what, 0) + count
    return {
        "swaps": swaps,
        "errors": sum(errors.values()),
        "p99_ms": median(p99["swapping"]),
        "steady_p99_ms": median(p99["steady"]),
        "p99_ratio": median_ratio(p99["swapping"], p99["steady"]),
        "memory_growth_mb": growth,
        "swap_ms": {
            "p50": percentile(swapper.took_ms, 0.5),
            "p95": percentile(swapper.took_ms, 0.95),
        },
        "p50_ms": median(percentile(load.latencies_ms, 0.5) for load in loads["swapping"]),
        "steady_p50_ms": median(percentile(load.latencies_ms, 0.5) for load in loads["steady"]),
        "max_ms": max(max(load.latencies_ms) for load in loads["swapping"]),
        "steady_max_ms": max(max(load.latencies_ms) for load in loads["steady"]),
        "round_p99_ms": p99,
        "error_kinds": errors,
        "unlogged": sum(load.unlogged for load in every),
        "versions_answered": sum(len(load.versions) for load in loads["swapping"]),
        "requests": sum(len(load.latencies_ms) for load in every),
        "requests_per_s": RATE,
        "swaps_per_s": SWAPS_PER_S,
    }


@contextmanager
def serving(options: Options, settings: Settings) -> Iterator[Server]:
    """`python -m serving`, on any free port, remembering answers for a few seconds only.

    Its memory of answers grows with the load by design; here it would hide what swaps leak.
    """
    settings = settings.model_copy(update={"port": 0, "answer_memory_minutes": 0.05})
    log = options.scratch / "serving.log"
    command = [sys.executable, "-m", "bakehouse_serving", REF]
    phase = PhaseFile(settings.home, "serving")
    with process(command, log, environment=settings.as_environment()) as started:

        def ready() -> bool:
            alive(started, log)
            return (phase.read() or {}).get("phase") == READY

        wait_until(ready, 30, "serving")
        url = str((phase.read() or {})["url"])
        yield Server(started.pid, int(url.rsplit(":", 1)[1]), url)


class Swapper:
    """Publishes pointers as the learner does."""

    def __init__(self, producer: KafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self.took_ms: list[float] = []  # of the last hundred swaps of every round

    def swap(self, server: Server, pointers: Iterator[PolicyPointer], count: int) -> None:
        """`count` swaps at their rate. Raises TimeoutError if the last is not served."""
        pace = threading.Event()  # never set
        start = time.perf_counter()
        sent_ms: dict[int, float] = {}
        for at in range(count):
            pace.wait(max(0.0, start + at / SWAPS_PER_S - time.perf_counter()))
            pointer = next(pointers)
            sent_ms[pointer.version] = time.time() * 1000
            value = pointer.model_dump_json().encode()
            self._producer.send(self._topic, key=pointer.application.encode(), value=value)
            self._producer.flush()
        if sent_ms:
            last = max(sent_ms)
            wait_until(lambda: policy_of(server)["policy_version"] == last, 10, "the last swap")
            self.took_ms += [
                entry["at_ms"] - sent_ms[entry["to"]]
                for entry in policy_of(server)["history"]
                if entry["to"] in sent_ms
            ]


@contextmanager
def publisher(settings: Settings) -> Iterator[Swapper]:
    """The learner's side of `policies.v1`."""
    producer = KafkaProducer(**settings.kafka_client(), acks="all")
    try:
        yield Swapper(producer, settings.topic("policies"))
    finally:
        producer.close()


def policy_of(server: Server) -> dict[str, Any]:
    """What serving says of the policy in place."""
    answer = httpx.get(f"{server.url}{BASE}/policy")
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found
