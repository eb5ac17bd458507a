"""What a decision costs on the hot route, against a plain FastAPI + pydantic route.

Five servers run at once, each a process under the same uvicorn (uvloop, httptools): the hot
routes, the hot routes traced and with hydration, the plain route doing the same, and a constant
answer, which is the floor (and takes the spans of the traced one). One client asks
them in alternating rounds; CPU is that of the server's process. A server that is kept busy (8
requests in flight) spends less on each than one that sleeps in between and finds its caches
cold, so both are measured; the first is what a core can do.

    cpu_us, plain_cpu_us, floor_cpu_us   CPU of a decision, server kept busy, median over rounds
    hydrated_cpu_us                      the same as cpu_us, four of six features from a table
    traced_ratio                         traced / hot, one in a thousand traced, median over rounds
    cpu_ratio                            hot / plain, median over rounds; at most 0.4
    decisions_per_core_s                 what one core could answer
    alone                                the same figures with one request at a time
    p50_ms, p99_ms                       as the client sees it, one request at a time
    batch_cpu_us                         CPU of a decision in a batch of 100
"""

from __future__ import annotations

import gc
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import orjson

from bakehouse_schemas.process.settings import Settings
from tests.bench.client import keep_busy, request_bytes
from tests.bench.game import application, world
from tests.bench.measure import Options, alternate, cost_of, median, median_ratio, percentile
from tests.bench.processes import server
from tests.bench.servers import HYDRATED

KINDS = ("hot", "traced", "hydrated", "plain", "floor")
BATCH = 100
IN_FLIGHT = 8
BASE = f"/v1/applications/{application.name}"


class Round(NamedTuple):
    """One server, some thousand requests twice."""

    busy_us: float  # CPU of a request, the server kept busy
    alone_us: float  # CPU of a request that comes alone
    alone_ms: list[float]  # latencies


def run(options: Options) -> dict[str, Any]:
    """Measure; see the module."""
    requests = options.sized(4_000, 400)
    rounds = options.sized(7, 2)
    bodies = decision_bodies(500)
    singles = [request_bytes(f"{BASE}/decisions", orjson.dumps(body)) for body in bodies]
    short = [request_bytes(f"{BASE}/decisions", orjson.dumps(without(body))) for body in bodies]
    batches = [
        request_bytes(
            f"{BASE}/decisions:batch", orjson.dumps({"decisions": bodies[at : at + BATCH]})
        )
        for at in range(0, len(bodies), BATCH)
    ]
    with (
        server("floor", options.scratch) as floor,
        server("hot", options.scratch) as hot,
        server("traced", options.scratch, traced_to(floor[1])) as traced,
        server("hydrated", options.scratch) as hydrated,
        server("plain", options.scratch) as plain,
    ):
        where = dict(zip(KINDS, (hot, traced, hydrated, plain, floor), strict=True))
        sent = {kind: short if kind == "hydrated" else singles for kind in KINDS}
        for kind, (pid, port) in where.items():
            asked(pid, port, sent[kind], max(200, requests // 4))  # warm
        results = alternate(
            rounds,
            {kind: partial(measured, *where[kind], sent[kind], requests) for kind in KINDS},
            after=lambda what, r: options.say(
                f"{what}: {r.busy_us:.1f} µs, alone {r.alone_us:.1f} µs, "
                f"p99 {percentile(r.alone_ms, 0.99):.3f} ms"
            ),
        )
        batch_us = median(
            asked(*hot, batches, max(10, requests // BATCH))[0] / BATCH for _ in range(rounds)
        )
    busy = {kind: [r.busy_us for r in results[kind]] for kind in KINDS}
    alone = {kind: [r.alone_us for r in results[kind]] for kind in KINDS}
    return {
        **figures(busy),
        "decisions_per_core_s": 1e6 / median(busy["hot"]),
        "alone": figures(alone),
        "p50_ms": median([percentile(r.alone_ms, 0.5) for r in results["hot"]]),
        "p99_ms": median([percentile(r.alone_ms, 0.99) for r in results["hot"]]),
        "plain_p99_ms": median([percentile(r.alone_ms, 0.99) for r in results["plain"]]),
        "batch_cpu_us": batch_us,
        "batch_decisions_per_core_s": 1e6 / batch_us,
        "requests": requests * rounds,
    }


def figures(cpu_us: dict[str, list[float]]) -> dict[str, float]:
    """Medians and ratio of some rounds."""
    return {
        "cpu_us": median(cpu_us["hot"]),
        "hydrated_cpu_us": median(cpu_us["hydrated"]),
        "plain_cpu_us": median(cpu_us["plain"]),
        "floor_cpu_us": median(cpu_us["floor"]),
        "cpu_ratio": median_ratio(cpu_us["hot"], cpu_us["plain"]),
        "traced_ratio": median_ratio(cpu_us["traced"], cpu_us["hot"]),
    }


def traced_to(port: int) -> dict[str, str]:
    """The environment of a server that traces as it does by default, with a collector there."""
    settings = Settings(trace_endpoint=f"http://127.0.0.1:{port}")
    return {name: value for name, value in settings.as_environment().items() if "TRACE" in name}


def decision_bodies(count: int) -> list[dict[str, Any]]:
    """Requests as a game would send them."""
    rng = np.random.default_rng(0)
    return [
        {"subject_id": f"player-{rng.integers(100_000)}", "context": world.context(rng)}
        for _ in range(count)
    ]


def without(body: dict[str, Any]) -> dict[str, Any]:
    """The same request, without what serving looks up."""
    context = {name: value for name, value in body["context"].items() if name not in HYDRATED}
    return {**body, "context": context}


def measured(pid: int, port: int, requests: list[bytes], count: int) -> Round:
    """The same requests with the server kept busy, and one by one."""
    busy_us, _ = asked(pid, port, requests, count, in_flight=IN_FLIGHT)
    alone_us, alone_ms = asked(pid, port, requests, count)
    return Round(busy_us, alone_us, alone_ms)


def asked(
    pid: int, port: int, requests: list[bytes], count: int, *, in_flight: int = 1
) -> tuple[float, list[float]]:
    """CPU of a request in microseconds, and latencies in milliseconds.

    Raises:
        RuntimeError: an answer is not 200; what it measures would not be a decision.
    """
    gc.disable()  # the client's pauses are not the server's latency
    try:
        with cost_of(pid) as cost:
            latencies, statuses = keep_busy(port, requests, count, in_flight=in_flight)
    finally:
        gc.enable()
    if set(statuses) != {200}:
        raise RuntimeError(f"expected 200 to every request, got {sorted(set(statuses))}")
    return cost.cpu_s / count * 1e6, [seconds * 1000 for seconds in latencies]
