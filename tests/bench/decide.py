"""What a decision costs on the hot route, against a plain FastAPI + pydantic route.

Three servers run at once, each a process under the same uvicorn (uvloop, httptools): the hot
routes, the plain route doing the same, and a constant answer, which is the floor. One client on
one kept connection asks them in alternating rounds; CPU is that of the server's process.

    cpu_us, plain_cpu_us, floor_cpu_us   CPU of a decision, median over rounds
    cpu_ratio                            hot / plain, median over rounds; at most 0.4
    decisions_per_core_s                 what one core could answer
    p50_ms, p99_ms                       as the client sees it, one request at a time
    batch_cpu_us                         CPU of a decision in a batch of 100
"""

from __future__ import annotations

import gc
import time
from typing import Any, NamedTuple

import numpy as np
import orjson

from tests.bench.client import Connection, request_bytes
from tests.bench.game import application, world
from tests.bench.measure import Options, alternate, cost_of, median, median_ratio, percentile
from tests.bench.processes import server

KINDS = ("hot", "plain", "floor")
BATCH = 100
BASE = f"/v1/applications/{application.name}"


class Round(NamedTuple):
    """One server, some thousand requests."""

    cpu_us: float  # a request
    latencies_ms: list[float]


def run(options: Options) -> dict[str, Any]:
    """Measure; see the module."""
    requests = options.sized(4_000, 400)
    rounds = options.sized(7, 2)
    bodies = decision_bodies(500)
    singles = [request_bytes(f"{BASE}/decisions", orjson.dumps(body)) for body in bodies]
    batches = [
        request_bytes(
            f"{BASE}/decisions:batch", orjson.dumps({"decisions": bodies[at : at + BATCH]})
        )
        for at in range(0, len(bodies), BATCH)
    ]
    with (
        server("hot", options.scratch) as hot,
        server("plain", options.scratch) as plain,
        server("floor", options.scratch) as floor,
    ):
        where = dict(zip(KINDS, (hot, plain, floor), strict=True))
        for pid, port in where.values():
            asked(pid, port, singles, max(200, requests // 4))  # warm
        results = alternate(
            rounds,
            {kind: lambda k=kind: asked(*where[k], singles, requests) for kind in KINDS},
            after=lambda what, r: options.say(
                f"{what}: {r.cpu_us:.1f} µs, p99 {percentile(r.latencies_ms, 0.99):.3f} ms"
            ),
        )
        in_batches = [asked(*hot, batches, max(10, requests // BATCH)) for _ in range(rounds)]
    cpu = {kind: [r.cpu_us for r in results[kind]] for kind in KINDS}
    latency = [ms for r in results["hot"] for ms in r.latencies_ms]
    return {
        "cpu_us": median(cpu["hot"]),
        "plain_cpu_us": median(cpu["plain"]),
        "floor_cpu_us": median(cpu["floor"]),
        "cpu_ratio": median_ratio(cpu["hot"], cpu["plain"]),
        "decisions_per_core_s": 1e6 / median(cpu["hot"]),
        "p50_ms": percentile(latency, 0.5),
        "p99_ms": median([percentile(r.latencies_ms, 0.99) for r in results["hot"]]),
        "plain_p99_ms": median([percentile(r.latencies_ms, 0.99) for r in results["plain"]]),
        "batch_cpu_us": median([r.cpu_us / BATCH for r in in_batches]),
        "batch_decisions_per_core_s": 1e6 / median([r.cpu_us / BATCH for r in in_batches]),
        "requests": requests * rounds,
    }


def decision_bodies(count: int) -> list[dict[str, Any]]:
    """Requests as a game would send them."""
    rng = np.random.default_rng(0)
    return [
        {"subject_id": f"player-{rng.integers(100_000)}", "context": world.context(rng)}
        for _ in range(count)
    ]


def asked(pid: int, port: int, requests: list[bytes], count: int) -> Round:
    """`count` requests, one after the other.

    Raises:
        RuntimeError: an answer is not 200; what it measures would not be a decision.
    """
    latencies = []
    gc.disable()  # the client's pauses are not the server's latency
    try:
        with Connection("127.0.0.1", port) as connection, cost_of(pid) as cost:
            for at in range(count):
                began = time.perf_counter()
                status, body = connection.ask(requests[at % len(requests)])
                latencies.append((time.perf_counter() - began) * 1000)
                if status != 200:
                    raise RuntimeError(f"expected 200, got {status}: {body!r:.300}")
    finally:
        gc.enable()
    return Round(cost.cpu_s / count * 1e6, latencies)
