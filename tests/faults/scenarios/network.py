"""The broker, and the way to it."""

from __future__ import annotations

import time

from tests.faults.beside import hold, wait, wait_until
from tests.faults.rig import Measured, Rig

HALF_OPEN_S = 15.0


def broker_killed(rig: Rig) -> Measured:
    """The broker is killed and started again: decisions go on, the spool drains, nothing lost."""
    rig.broker.kill()
    rig.kills += 1
    before = rig.status()["decisions"]
    wait_until(lambda: rig.status()["decisions"] > before + 50, "decisions go on without a broker")
    rig.broker.start()
    return {"drained_s": drained(rig)}


def broker_unreachable(rig: Rig) -> Measured:
    """The broker cannot be reached: every answer is 2xx, memory is bounded, the spool drains."""
    steady_from = time.monotonic()
    wait(steady_from + 15.0)
    steady_to = time.monotonic()
    memory = rig.serving_memory_mb()
    rig.proxy.become("closed")
    began = time.monotonic()
    most = 0
    while time.monotonic() < began + rig.later["outage_s"]:
        most = max(most, rig.status()["serving"]["spool"]["events"])
        wait(time.monotonic() + 5.0)
    ended = time.monotonic()
    grown = rig.serving_memory_mb() - memory
    rig.proxy.become("open")
    rig.later["steady"], rig.later["outage"] = (steady_from, steady_to), (began, ended)
    drained_s = drained(rig)
    hold(grown < 64, f"serving grew by {grown:.0f} MB while the broker was away")
    return {
        "outage_s": round(ended - began),
        "spooled": most,
        "memory_mb": round(grown, 1),
        "drained_s": drained_s,
    }


def network_half_open(rig: Rig) -> Measured:
    """Connections stay and nothing comes through: found out, begun anew, nothing is lost."""
    rig.proxy.become("silent")
    began = time.monotonic()
    wait(began + HALF_OPEN_S)
    spooled = rig.status()["serving"]["spool"]["events"]
    hold(spooled > 0, "the spool is empty, though nothing comes through to Kafka")
    rig.proxy.become("open")
    return {"silent_s": round(time.monotonic() - began, 1), "drained_s": drained(rig)}


def network_resets(rig: Rig) -> Measured:
    """Every connection is reset, again and again: nothing is lost."""
    for _ in range(8):
        before = rig.status()["serving"]["kafka"]["published"]
        rig.proxy.become("reset")
        wait_until(
            lambda before=before: rig.status()["serving"]["kafka"]["published"] > before,  # type: ignore[misc]
            "events are published after a reset",
        )
    return {"resets": 8, "drained_s": drained(rig)}


def drained(rig: Rig) -> float:
    """Seconds until Kafka has what had been spooled by now."""
    began = time.monotonic()
    spooled = rig.status()["serving"]["spool"]["events"]
    published = rig.status()["serving"]["kafka"]["published"]
    wait_until(
        lambda: (
            rig.status()["serving"]["kafka"]["published"] >= published + spooled
            or rig.status()["serving"]["spool"]["events"] == 0
        ),
        "the spool drains",
        patience_s=180,
    )
    return round(time.monotonic() - began, 1)
