"""Counters and timings of a serving process: cheap to add to, readable from any thread."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import numpy as np

FRESHNESS_WINDOW_S = 60.0
_FRESHNESS_MOST = 200_000  # outcomes kept in the window


class Timings:
    """The last durations, more than a second of them, and their percentiles."""

    def __init__(self, size: int = 1 << 14) -> None:
        self._ring = np.zeros(size, dtype=np.float64)  # seconds
        self.count = 0

    def add(self, seconds: float) -> None:
        self._ring[self.count % len(self._ring)] = seconds
        self.count += 1

    def since(self, count: int) -> dict[str, float | int | None]:
        """p50 and p99 in milliseconds of what was added after `count`, as far as it is kept."""
        added = self.added(count)
        if not len(added):
            return {"p50": None, "p99": None, "n": 0}
        p50, p99 = np.percentile(added, (50, 99)) * 1000
        return {"p50": round(float(p50), 4), "p99": round(float(p99), 4), "n": len(added)}

    def added(self, count: int) -> np.ndarray:
        """Seconds, those that were added after `count`, as far as they are kept."""
        end = self.count
        kept: np.ndarray = self._ring[
            np.arange(max(count, end - len(self._ring)), end) % len(self._ring)
        ]
        return kept


class Durations:
    """A histogram since the start, filled out of `Timings` once a second: requests pay nothing."""

    BOUNDS_S = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

    def __init__(self, timings: Timings) -> None:
        self._timings = timings
        self._taken = 0
        self._counts = np.zeros(len(self.BOUNDS_S) + 1, dtype=np.int64)
        self._lock = threading.Lock()
        self.sum_s = 0.0

    def take(self) -> list[int]:
        """Count what has come since; requests no longer than each bound, and at last all."""
        with self._lock:
            end = self._timings.count
            added = self._timings.added(self._taken)
            self._taken = end
            places = np.searchsorted(self.BOUNDS_S, added)
            self._counts += np.bincount(places, minlength=len(self._counts))
            self.sum_s += float(added.sum())
            return [int(count) for count in self._counts.cumsum()]


class Freshness:
    """Seconds from an outcome's acknowledgement to the first answer of a policy that knows it."""

    def __init__(self, window_s: float = FRESHNESS_WINDOW_S) -> None:
        self._window_s = window_s
        self._batches: deque[tuple[float, np.ndarray]] = deque()
        self._kept = 0
        self._lock = threading.Lock()
        self.count = 0

    def add(self, now_s: float, received_at_ms: tuple[int, ...]) -> None:
        """A policy answered for the first time, and these outcomes are new in it."""
        delays = now_s - np.array(received_at_ms, dtype=np.float64) / 1000
        with self._lock:
            self._batches.append((now_s, np.maximum(delays, 0.0)))
            self._kept += len(delays)
            self.count += len(delays)
            self._forget(now_s)

    def _forget(self, now_s: float) -> None:
        while self._batches and (
            now_s - self._batches[0][0] > self._window_s or self._kept > _FRESHNESS_MOST
        ):
            self._kept -= len(self._batches.popleft()[1])

    def summary(self, now_s: float) -> dict[str, float | int | None]:
        """p50 and p95 in seconds, and how many outcomes, of the last minute."""
        with self._lock:
            self._forget(now_s)
            delays = [batch for _, batch in self._batches]
        if not delays:
            return {"p50": None, "p95": None, "n": 0}
        p50, p95 = np.percentile(np.concatenate(delays), (50, 95))
        n = sum(map(len, delays))
        return {"p50": round(float(p50), 3), "p95": round(float(p95), 3), "n": n}


class Counters:
    """Counters of one application; only the event loop's thread adds to them."""

    def __init__(self) -> None:
        self.decisions = 0
        self.simulated = 0  # of them, those for simulated players
        self.repeated = 0  # the same decision_id again, the same answer
        self.unlogged = 0  # the spool was full: baseline, never learned from
        self.outcomes = 0
        self.rejected = 0  # outcomes
        self.uncounted = 0  # outcomes that were accepted, and that nothing counts
        self.invalid = 0  # decision requests and bodies with a problem
        self.explored = 0
        self.baseline_failed = 0
        self.hydration_misses = 0
        self.hydration_timeouts = 0
        self.hydration_failed = 0
        self.cohorts = {"policy": 0, "holdout": 0, "canary": 0, "fallback": 0}
        self.freshness = Freshness()

    def counts(self) -> dict[str, Any]:
        """All counters by name."""
        return {
            "decisions": self.decisions,
            "simulated": self.simulated,
            "outcomes": self.outcomes,
            "repeated": self.repeated,
            "unlogged": self.unlogged,
            "rejected": self.rejected,
            "uncounted": self.uncounted,
            "invalid": self.invalid,
            "explored": self.explored,
            "baseline_failed": self.baseline_failed,
            "hydration_misses": self.hydration_misses,
            "hydration_timeouts": self.hydration_timeouts,
            "hydration_failed": self.hydration_failed,
            "cohorts": dict(self.cohorts),
        }
