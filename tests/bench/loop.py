"""The highest rate of whole loops that is held for two minutes with freshness p95 under 6 s.

The whole stack on this machine, load generator included. Short probes climb a ladder of rates
until one is not held; the highest that was is then held for two minutes, or the next lower one.
Held means: at least 98% of the loops that were begun were answered and acknowledged, in their time,
no error, every decision logged, and freshness p95 under 6 s, where an outcome that no policy had
learned from to the end counts as long as it waited.

    loops_per_s          one request at a time; at least 500
    batch_loops_per_s    through the batch routes
    held                 figures of the two-minute runs
    tried                every run: rate, seconds, whether it was held, p95_s
"""

from __future__ import annotations

from typing import Any

from tests.bench.measure import Options
from tests.bench.whole import Measured, Whole, whole

P95_S = 6.0
ACKNOWLEDGED = 0.98  # of the loops that were begun
ON_TIME = 0.96  # of the rate; arrivals are random, so a short run can fall a little short
LADDER = {"single": (300, 500, 700, 900, 1_100, 1_400), "batch": (500, 1_000, 1_500, 2_000, 2_600)}


def run(options: Options) -> dict[str, Any]:
    """Measure; see the module."""
    ladder = options.sized(LADDER, {"single": (50, 100), "batch": (100,)})
    probe_s, hold_s = options.sized((40.0, 120.0), (15.0, 20.0))
    tried: list[dict[str, Any]] = []
    held: dict[str, Measured] = {}
    with whole(options) as stack:
        for mode, rates in ladder.items():
            search = Search(stack, options, mode == "batch", tried)
            best = search.hold(list(rates), probe_s, hold_s)
            if best is not None:
                held[mode] = best
        memory_mb = stack.memory_mb()
    return {
        "loops_per_s": held["single"].played.loops_per_s if "single" in held else 0.0,
        "batch_loops_per_s": held["batch"].played.loops_per_s if "batch" in held else 0.0,
        "held": {mode: one.figures for mode, one in held.items()},
        "tried": tried,
        "memory_mb": memory_mb,
    }


def is_held(measured: Measured) -> bool:
    """Whether the stack kept up."""
    played = measured.played
    return (
        played.loops >= ACKNOWLEDGED * played.asked
        and played.loops_per_s >= ON_TIME * played.rate
        and played.http_errors == 0
        and played.not_logged == 0
        and measured.p95_s < P95_S
    )


class Search:
    """Tries rates, one way of asking."""

    def __init__(
        self, stack: Whole, options: Options, batched: bool, tried: list[dict[str, Any]]
    ) -> None:
        self._stack = stack
        self._options = options
        self._batched = batched
        self._tried = tried

    def hold(self, rates: list[int], probe_s: float, hold_s: float) -> Measured | None:
        """The run at the highest rate that was held so long; None if none was."""
        promising = []
        for rate in rates:
            if not is_held(self._try(rate, probe_s)):
                break
            promising.append(rate)
        for rate in reversed(promising):
            measured = self._try(rate, hold_s)
            if is_held(measured):
                return measured
        return None

    def _try(self, rate: int, seconds: float) -> Measured:
        measured = self._stack.play(rate, seconds, batched=self._batched)
        self._tried.append(
            {
                "batched": self._batched,
                "rate": rate,
                "seconds": seconds,
                "held": is_held(measured),
                "loops_per_s": measured.played.loops_per_s,
                "p50_s": measured.p50_s,
                "p95_s": measured.p95_s,
                "http_errors": measured.played.http_errors,
            }
        )
        self._options.say(str(self._tried[-1]))
        self._stack.catch_up()
        return measured
