"""The whole stack under simulated players, and what is measured of it from outside."""

from __future__ import annotations

import bisect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bakehouse.demo.freshness import measure_freshness
from bakehouse.demo.watch import ReplayWatch
from bakehouse.local.supervisor import Stack
from bakehouse_schemas.policy.bundle import read_manifest
from bakehouse_schemas.process.settings import Settings
from tests.bench.game import REF, application
from tests.bench.listen import Listener
from tests.bench.measure import (
    Options,
    median,
    percentile,
    tree_cpu_s,
    tree_memory_mb,
    wait_until,
)
from tests.bench.play import Played, PlayProcess

READY_S = 180.0
FIRST_POLICY_S = 240.0
CAUGHT_UP_S = 120.0
WARM_RATE = 100.0
TAIL_S = 6.0  # outcomes acknowledged this shortly before the last answer are left out
PARTS = ("serving", "stream", "learner")


@dataclass(frozen=True)
class Measured:
    """A stretch of play."""

    played: Played
    delays_s: np.ndarray  # freshness of every outcome that counts
    waiting: int  # of these, how many no policy had learned from to the end
    stages_s: dict[str, float]  # medians
    cores: dict[str, float]  # CPU seconds a second, by part

    @property
    def p50_s(self) -> float:
        return percentile(self.delays_s.tolist(), 0.5)

    @property
    def p95_s(self) -> float:
        return percentile(self.delays_s.tolist(), 0.95)

    @property
    def figures(self) -> dict[str, Any]:
        """What a person wants to know of it."""
        return {
            "rate": self.played.rate,
            "loops_per_s": self.played.loops_per_s,
            "p50_s": self.p50_s,
            "p95_s": self.p95_s,
            "outcomes": len(self.delays_s),
            "waiting": self.waiting,
            "decision_p50_ms": self.played.p50_ms,
            "decision_p99_ms": self.played.p99_ms,
            "http_errors": self.played.http_errors,
            "not_logged": self.played.not_logged,
            "cores": self.cores,
            "stages_s": self.stages_s,
        }


class Whole:
    """A running stack; `play` measures a stretch of it."""

    def __init__(self, stack: Stack, listener: Listener, options: Options) -> None:
        self._stack = stack
        self._listener = listener
        self._options = options
        self._plays = 0
        self._table = Path(stack.settings.tables) / "replay"
        self._policies = stack.settings.policies / application.name
        self._manifests: dict[int, int] = {}
        self._replay = ReplayWatch(self._table, application.name)

    def warm(self) -> None:
        """Play until a trained policy answers. Raises TimeoutError."""
        for _ in range(round(FIRST_POLICY_S / 20)):
            played = self._run(WARM_RATE, 20.0, batched=False)
            if any(version > 0 for version in played.first_answers):
                return
        raise TimeoutError(
            f"version 0 was not left in {FIRST_POLICY_S:.0f} s of play; the logs are in "
            f"{self._stack.settings.home}/logs"
        )

    def play(self, rate: float, seconds: float, *, batched: bool = False) -> Measured:
        """Players at `rate` for `seconds`; what they met, measured when all is over."""
        cpu = self._cpu()
        played = self._run(rate, seconds, batched=batched)
        used = {name: after - cpu.get(name, 0.0) for name, after in self._cpu().items()}
        span_s = played.ended_s - played.began_s
        cores = {name: cpu_s / span_s for name, cpu_s in used.items()}
        cores["players"] = played.cpu_s / span_s
        self._replay.look()
        fresh = measure_freshness(
            played.outcomes,
            table_versions=self._replay.outcomes,
            trained_on=self._trained_on(),
            first_answers=played.first_answers,
            last_answer_s=played.last_answer_s,
            tail_s=TAIL_S,
        )
        return Measured(played, fresh.delays_s, fresh.waiting, self._stages(played), cores)

    def catch_up(self) -> None:
        """Wait until stream has read everything. Raises TimeoutError."""

        now_ms = time.time() * 1000
        wait_until(
            lambda: self._listener.stream_time_ms >= now_ms - 1_000,
            CAUGHT_UP_S,
            "stream time that has passed all outcomes",
        )

    def memory_mb(self) -> dict[str, float]:
        """Resident memory by part, shared pages counted once."""
        return {name: tree_memory_mb(pid) for name, pid in self._stack.pids().items()}

    def _run(self, rate: float, seconds: float, *, batched: bool) -> Played:
        self._plays += 1
        process = PlayProcess(
            self._stack.url,
            self._options.scratch / f"played-{self._plays}.json",
            rate=rate,
            seconds=seconds,
            batched=batched,
            seed=self._plays,
        )
        try:
            return process.result(seconds * 3 + 60)
        finally:
            process.kill()

    def _cpu(self) -> dict[str, float]:
        return {name: tree_cpu_s(pid) for name, pid in self._stack.pids().items()}

    def _trained_on(self) -> dict[int, int]:
        """Policy version → replay version, of all that were ever published."""
        for folder in self._policies.iterdir():
            if folder.name.isdigit() and int(folder.name) not in self._manifests:
                self._manifests[int(folder.name)] = read_manifest(folder).replay_version
        return self._manifests

    def _stages(self, played: Played) -> dict[str, float]:
        """Median seconds in each stage, of the outcomes of this stretch.

        What timestamps show is taken from them; where a stretch between two of them holds more
        than one stage, the parts' own timings divide it, and waiting is what is left.
        """
        trained_on = self._trained_on()
        versions = sorted((trained_on[v], v) for v in played.first_answers if v in trained_on)
        pointers = {
            record.value["version"]: record.at_ms / 1000
            for record in list(self._listener.heard["policies"])
            if record.key == application.name
        }
        commits: dict[int, float] = {}
        received_s = self._received_s()
        spool, table, learn, swap = [], [], [], []
        for outcome in played.outcomes:
            version = self._replay.outcomes.get(outcome.outcome_id)
            if version is None or outcome.outcome_id not in received_s:
                continue
            at = bisect.bisect_left(versions, (version, -1))
            if at == len(versions) or versions[at][1] not in pointers:
                continue
            policy = versions[at][1]
            if version not in commits:
                commits[version] = self._committed_s(version)
            spool.append(received_s[outcome.outcome_id] - outcome.at_s)
            table.append(commits[version] - received_s[outcome.outcome_id])
            learn.append(pointers[policy] - commits[version])
            swap.append(played.first_answers[policy] - pointers[policy])
        stream = self._timings("stream", played)
        learner = self._timings("learner", played)
        join = stream.get("addBatch", 0.0) + stream.get("queryPlanning", 0.0)
        commit = stream.get("commit", 0.0)
        join -= commit
        read, train = learner.get("read", 0.0), learner.get("train", 0.0)
        gate = sum(learner.get(name, 0.0) for name in ("predict", "evaluate", "gate"))
        publish = learner.get("publish", 0.0) + learner.get("export", 0.0)
        return {
            "spool": median(spool),
            "wait": median(table) - join - commit,
            "join": join,
            "commit": commit,
            "cadence": median(learn) - read - train - gate - publish,
            "read": read,
            "train": train,
            "gate": gate,
            "publish": publish,
            "swap": median(swap),
        }

    def _timings(self, part: str, played: Played) -> dict[str, float]:
        """Medians of a part's own timings while it was played, in seconds."""
        found: dict[str, list[float]] = {}
        for status in self._listener.statuses(part, played.began_s, played.ended_s):
            if part == "stream":
                timings = {name: ms / 1000 for name, ms in status.get("batch_ms", {}).items()}
            else:
                timings = status["applications"].get(application.name, {}).get("seconds", {})
            for name, seconds in timings.items():
                found.setdefault(name, []).append(seconds)
        return {name: median(values) for name, values in found.items()}

    def _received_s(self) -> dict[str, float]:
        """outcome_id → the broker's time, from the ledger's files."""
        received: dict[str, float] = {}
        for file in (self._table.parent / "outcomes").rglob("*.parquet"):
            if "_delta_log" in file.parts:
                continue
            rows = pq.ParquetFile(file).read(columns=["outcome_id", "received_at"])
            at_us = pc.cast(rows["received_at"], "int64").to_pylist()
            for outcome_id, at in zip(rows["outcome_id"].to_pylist(), at_us, strict=True):
                received.setdefault(outcome_id, at / 1e6)
        return received

    def _committed_s(self, version: int) -> float:
        """When a version of the replay table became visible."""
        return (self._table / "_delta_log" / f"{version:020d}.json").stat().st_mtime


@contextmanager
def whole(options: Options) -> Iterator[Whole]:
    """The stack, ready, with a trained policy in place."""
    home = options.scratch / "home"
    settings = Settings(home=home, port=0, policies_kept=1_000_000)
    with Stack([REF], settings, on_event=lambda event: options.say(str(event))) as stack:
        for part in PARTS:
            stack.wait(part, READY_S)
        with Listener(stack.settings) as listener:
            running = Whole(stack, listener, options)
            running.warm()
            running.catch_up()
            yield running
