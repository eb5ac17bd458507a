"""Open-loop load: requests leave at their time, whether or not the server keeps up.

A latency counts from the intended time, so a pause of the server shows in every request that it
held up and not in one alone. `python -m tests.bench.open_loop` runs in a process of its own, to
be disturbed by nothing that the benchmark does meanwhile.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import orjson

from tests.bench.client import request_bytes, split_response
from tests.bench.decide import BASE, decision_bodies

CONNECTIONS = 32
GIVE_UP_S = 10.0  # after the last request, for the last answers


@dataclass
class Load:
    """What came back."""

    latencies_ms: list[float] = field(default_factory=list)  # from the intended time
    errors: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)  # answers by policy version
    unlogged: int = 0


def run(port: int, rate: float, seconds: float, seed: int) -> Load:
    """Poisson arrivals at `rate` a second."""
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.exponential(1 / rate, int(rate * seconds)))
    requests = [
        request_bytes(f"{BASE}/decisions", orjson.dumps(body)) for body in decision_bodies(500)
    ]
    load, errors, versions = Load(), Counter[str](), Counter[str]()
    idle = [_connect(port) for _ in range(CONNECTIONS)]
    busy: dict[socket.socket, tuple[float, bytearray]] = {}
    late: deque[float] = deque()
    gc.disable()
    start, at, give_up = time.perf_counter() + 0.1, 0, 0.0
    while at < len(due) or busy or late:
        now = time.perf_counter()
        while at < len(due) and start + due[at] <= now:
            late.append(start + due[at])
            at += 1
        while late and idle:
            one = idle.pop()
            one.sendall(requests[len(load.latencies_ms) % len(requests)])
            busy[one] = (late.popleft(), bytearray())
        if at < len(due):
            give_up = now + GIVE_UP_S
            wait = max(0.0, start + due[at] - time.perf_counter())
        elif now > give_up:
            errors["no answer"] += len(busy) + len(late)
            break
        else:
            wait = 0.1
        # select, because its timeout has microseconds and epoll's has milliseconds
        readable, _, _ = select.select(list(busy), [], [], wait)
        for one in readable:
            intended, data = busy[one]
            try:
                received = one.recv(65536)
            except OSError as error:
                received = b""
                errors[type(error).__name__] += 1
            if not received:
                errors["connection closed"] += 1
                del busy[one]
                idle.append(_connect(port))
                continue
            data += received
            whole = split_response(data)
            if whole is None:
                continue
            load.latencies_ms.append((time.perf_counter() - intended) * 1000)
            del busy[one]
            idle.append(one)
            status, body, _ = whole
            if status != 200:
                errors[f"status {status}"] += 1
                continue
            answer = orjson.loads(body)
            versions[str(answer["policy_version"])] += 1
            load.unlogged += not answer["logged"]
    gc.enable()
    load.errors, load.versions = dict(errors), dict(versions)
    return load


def _connect(port: int) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), timeout=10)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


class Generator:
    """A run in a process of its own."""

    def __init__(self, port: int, *, rate: float, seconds: float, seed: int) -> None:
        given = json.dumps({"port": port, "rate": rate, "seconds": seconds, "seed": seed})
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.open_loop", given], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it begins

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def result(self) -> Load:
        """Wait for the end. Raises RuntimeError if it broke."""
        said, _ = self._process.communicate()
        if self._process.returncode:
            raise RuntimeError(f"the load generator ended with {self._process.returncode}")
        found: dict[str, Any] = json.loads(said)
        return Load(**found)


def main() -> None:
    """One run; says `begun`, and at the end the load as JSON."""
    given = json.loads(sys.argv[1])
    print("begun", flush=True)
    print(json.dumps(asdict(run(**given))))


if __name__ == "__main__":
    main()
