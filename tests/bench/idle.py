"""How the stack starts, and what it uses when nobody plays.

first_answer_s     from the start to the first answered decision; at most 5
ready_s            from the start to ready, by part
idle_cores         CPU seconds a second once nothing has happened for a while, by part, and in
                   all; at most 0.2 in all
memory_mb          resident, shared pages counted once, by part, and in all
"""

from __future__ import annotations

import time
from typing import Any

import httpx

from bakehouse.local.events import StackEvent
from bakehouse.local.supervisor import Stack
from bakehouse_schemas.process.settings import Settings
from tests.bench.decide import BASE, decision_bodies
from tests.bench.game import REF
from tests.bench.measure import Options, tree_cpu_s, tree_memory_mb
from tests.bench.play import PlayProcess

READY_S = 180.0
PARTS = ("broker", "serving", "stream", "learner")


def run(options: Options) -> dict[str, Any]:
    """Measure; see the module."""
    quiet_s, watched_s = options.sized((600.0, 60.0), (20.0, 10.0))
    settings = Settings(home=options.scratch / "home", port=0)
    ready_s: dict[str, float] = {}
    began = time.monotonic()

    def note(event: StackEvent) -> None:
        options.say(str(event))
        if event.what == "ready":
            ready_s.setdefault(event.part, time.monotonic() - began)

    with Stack([REF], settings, on_event=note) as stack:
        answer = httpx.post(f"{stack.url}{BASE}/decisions", json=decision_bodies(1)[0])
        answer.raise_for_status()
        first_answer_s = time.monotonic() - began
        for part in PARTS:
            stack.wait(part, READY_S)
        file = options.scratch / "played.json"
        players = PlayProcess(stack.url, file, rate=50, seconds=30, batched=False, seed=1)
        played = players.result(120)
        options.say(f"{played.decisions} decisions played; now nobody plays for {quiet_s:.0f} s")
        stack.wait_for_failure(quiet_s)
        pids = stack.pids()
        before = {part: tree_cpu_s(pid) for part, pid in pids.items()}
        started = time.monotonic()
        stack.wait_for_failure(watched_s)
        took_s = time.monotonic() - started
        cores = {part: (tree_cpu_s(pid) - before[part]) / took_s for part, pid in pids.items()}
        memory_mb = {part: tree_memory_mb(pid) for part, pid in pids.items()}
    return {
        "first_answer_s": first_answer_s,
        "ready_s": ready_s,
        "idle_cores": cores | {"all": sum(cores.values())},
        "memory_mb": memory_mb | {"all": sum(memory_mb.values())},
        "quiet_s": quiet_s,
    }
