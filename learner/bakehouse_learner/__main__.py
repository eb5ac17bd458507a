"""`python -m learner REF…`: learns from the replay table and publishes policies."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, cast

from bakehouse_learner.artifacts.anchor_archive import AnchorArchive
from bakehouse_learner.online.kafka_bus import KafkaBus
from bakehouse_learner.online.loop import ApplicationLoop
from bakehouse_learner.online.mlflow_tracking import MlflowTracker
from bakehouse_schemas.application.agents import require_packages
from bakehouse_schemas.contracts.known import note_contracts
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.loading import load_applications
from bakehouse_schemas.process.logs import set_up_logs
from bakehouse_schemas.process.phase import READY, PhaseFile
from bakehouse_schemas.process.private import make_home, write_privately
from bakehouse_schemas.process.settings import load_settings
from bakehouse_schemas.process.spans import open_tracer

log = logging.getLogger("learner")

BUSY_WAIT_S = 0.03
IDLE_WAIT_S = 0.5
STATUS_EVERY_S = 1.0


def main(refs: list[str]) -> int:
    """Run until SIGTERM or SIGINT; exit status 0 after a stop, 2 where it cannot start."""
    set_up_logs("learner", "text", to=sys.stderr)
    try:
        settings = load_settings()
        set_up_logs("learner", settings.log_format, to=sys.stderr)
        write_privately()
        make_home(settings.home)
        applications = [loaded.application for loaded in load_applications(refs).values()]
        for application in applications:
            require_packages(application.agent.name)
        note_contracts(settings.home, applications)
    except (BakehouseError, OSError) as error:
        log.error("the learner cannot start: %s", error)
        return 2
    phase = PhaseFile(settings.home, "learner")
    stopping = threading.Event()
    bus = KafkaBus(
        settings,
        process=str(os.getpid()),
        contracts={each.name: each.contract for each in applications},
    )

    def stop(*_: object) -> None:
        stopping.set()
        bus.wake()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    phase.announce("waiting for Kafka")
    bus.start()
    phase.announce("importing TensorFlow")
    # 12 s: only now, and Kafka is being read meanwhile
    from bakehouse_learner.agents import agent_module, build_agent
    from bakehouse_learner.agents.common.saved_model import save_model

    for application in applications:  # with TF-Agents where needed: no training is to wait for it
        agent_module(application.agent.name)
    tracer = open_tracer(settings, "learner", process=str(os.getpid()))
    tracker = MlflowTracker(settings, {each.name: each for each in applications})
    audit = AnchorArchive(
        settings.home / "learner" / "anchors",
        build_agent,
        lambda folder, agent, setup: save_model(folder, cast(Any, agent), setup.application),
    )
    loops = [
        ApplicationLoop(
            application,
            settings,
            bus,
            build_agent,
            clock=time.monotonic,
            wall_ms=lambda: time.time_ns() // 1_000_000,
            tracker=tracker,
            keep_anchor=audit.keep,
            tracer=tracer,
        )
        for application in applications
    ]
    phase.announce("compiling the training function")
    for loop in loops:
        loop.learning.warm_up()
    phase.announce("waiting for Kafka")
    while not bus.listening.wait(0.2) and not stopping.is_set():
        pass
    if not stopping.is_set():
        phase.announce("reading replay")
        for loop in loops:
            loop.start()
        tracker.start()
        audit.start()
        # what was made so far stays for good: not to be walked through at every collection
        gc.collect()
        gc.freeze()
        phase.announce(READY)
        _run(
            loops,
            bus,
            stopping,
            lambda: {
                "mlflow_runs": tracker.runs,
                "mlflow_failures": tracker.failures,
                "mlflow_problem": tracker.problem,
                "anchors_kept": audit.saved,
            },
        )
        phase.announce("stopping")
        for loop in loops:
            loop.close()
    tracker.stop()
    audit.stop()
    bus.stop()
    if tracer is not None:
        tracer.stop()
    return 0


def _run(
    loops: list[ApplicationLoop],
    bus: KafkaBus,
    stopping: threading.Event,
    beside: Callable[[], dict[str, Any]],
) -> None:
    wait_s = BUSY_WAIT_S
    reported_at, active_since_report, told = 0.0, True, beside()
    while not stopping.is_set():
        active = False
        for loop in loops:
            active = loop.turn() or active
        active_since_report = active_since_report or active or beside() != told
        now = time.monotonic()
        if active_since_report and now - reported_at >= STATUS_EVERY_S:
            bus.retry()
            told = beside()
            bus.report(_status(loops, bus) | told)
            reported_at, active_since_report = now, False
        for loop in loops:
            if (figures := loop.figures(str(os.getpid()))) is not None:
                bus.report(figures, about=f"insight/{loop.application.name}")
        # quick while rows are coming, seldom when nobody plays; progress ends the wait as well
        wait_s = BUSY_WAIT_S if active else min(wait_s * 1.05, IDLE_WAIT_S)
        due = [wait for loop in loops if (wait := loop.wait_s()) is not None]
        bus.wait(min([wait_s, *due]))


def _status(loops: list[ApplicationLoop], bus: KafkaBus) -> dict[str, Any]:
    return {
        "part": "learner",
        "process": str(os.getpid()),
        "at_ms": time.time_ns() // 1_000_000,
        "problem": bus.problem,
        "applications": {loop.application.name: loop.status() for loop in loops},
    }


if __name__ == "__main__":
    status = main(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # TensorFlow's and Kafka's threads have nothing left to say
