"""From an outcome's acknowledgement to the first better answer, and where the time goes.

The whole stack on this machine, players one request at a time and in a process of their own, at
20, 200 and 1,000 loops a second (a loop is a decision and its outcome). Freshness is measured by
the players' clock: an outcome is followed by its id to the first version of the replay table
that holds it, and from there to the first answer of a policy trained on that version.

    p50_s, p95_s     by rate
    stages_s         by rate, medians: spool (into Kafka), wait (for the batch before), join,
                     commit, cadence (the learner waits for its next training), read, train, gate,
                     publish, swap (pointer in Kafka to first answer)
    runs             by rate: loops_per_s as achieved, cores by part, latencies, errors
"""

from __future__ import annotations

from typing import Any

from tests.bench.measure import Options
from tests.bench.whole import Measured, whole

RATES = (20, 200, 1_000)


def run(options: Options) -> dict[str, Any]:
    """Measure; see the module."""
    rates = options.sized(RATES, (20, 100))
    seconds = options.sized(75.0, 20.0)
    found: dict[int, Measured] = {}
    with whole(options) as stack:
        for rate in rates:
            found[rate] = stack.play(rate, seconds)
            options.say(
                f"{rate} loops/s: p50 {found[rate].p50_s:.2f} s, p95 {found[rate].p95_s:.2f} s"
            )
            stack.catch_up()
        memory_mb = stack.memory_mb()
    return {
        "p50_s": {rate: one.p50_s for rate, one in found.items()},
        "p95_s": {rate: one.p95_s for rate, one in found.items()},
        "stages_s": {rate: one.stages_s for rate, one in found.items()},
        "runs": {rate: one.figures for rate, one in found.items()},
        "memory_mb": memory_mb,
    }
