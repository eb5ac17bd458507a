"""What was learned, for people to look at later: runs, reports and models in MLflow.

A thread makes the store's database where there is none, and hands notes to a process that does the
writing (`bakehouse_learner.artifacts.mlflow_writer`). Nothing here is waited for; what fails is
logged, counted and shown in the learner's status, and the learning goes on.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bakehouse_learner.artifacts.mlflow_database import MlflowDatabaseError, ensure_database
from bakehouse_learner.gate.candidate import Candidate
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.process.addresses import text_without_secrets
from bakehouse_schemas.process.settings import Settings

log = logging.getLogger(__name__)

RUN_EVERY_S = 60.0
QUEUED = 8
IDLE_S = 150.0  # after which the writing process is let go: it holds 250 MB
STOP_S = 10.0
WRITE_S = 120.0  # for a run, MLflow's import included; a database that is away is tried for longer


class MlflowProblem(BakehouseError):
    """What the writing process says of a run that was not written."""


class MlflowTracker(threading.Thread):
    """The thread that takes notes of published candidates, for runs of `<application>`."""

    def __init__(self, settings: Settings, applications: Mapping[str, Application]) -> None:
        super().__init__(name="tracking", daemon=True)
        self._uri = settings.mlflow_tracking_uri
        self._environment = os.environ | settings.as_environment()
        self._applications = applications
        self._notes: queue.Queue[dict[str, Any] | None] = queue.Queue(maxsize=QUEUED)
        self._last: dict[str, float] = {}
        self._runs: dict[str, str] = {}
        self._writer: subprocess.Popen[str] | None = None
        self.failures = 0
        self.runs = 0
        self.problem: str | None = None  # why the last run was not written; None: it was

    def offer(self, candidate: Candidate, bundle: Path, *, new_anchor: bool) -> None:
        """Note a published candidate: anchors, what ends a freeze, of the others one a minute."""
        name, now = bundle.parent.name, time.monotonic()
        last = self._last.get(name)
        asked_for = new_anchor or candidate.last_freeze is not None
        if not asked_for and last is not None and now - last < RUN_EVERY_S:
            return
        try:
            self._notes.put_nowait(
                note_of(self._applications[name], candidate, bundle, new_anchor=new_anchor)
            )
            self._last[name] = now
        except queue.Full:
            self.failures += 1
            self.problem = self.problem or f"{QUEUED} runs are waiting already"

    def run_of(self, application: str) -> str | None:
        """The latest run, None before the first."""
        return self._runs.get(application)

    def stop(self) -> None:
        """Finish the run that is being written, a few seconds at most."""
        try:
            self._notes.put_nowait(None)
        except queue.Full:
            log.warning("MLflow is behind; %d runs are not written", self._notes.qsize())
        if self.is_alive():
            self.join(timeout=STOP_S)
        if self._writer is not None and self._writer.poll() is None:
            self._writer.kill()

    def run(self) -> None:
        try:
            ensure_database(self._uri)  # before a person's `mlflow ui` can come across half of it
        except (OSError, MlflowDatabaseError) as error:
            self.problem = text_without_secrets(str(error))
            log.warning("MLflow: %s", error)
        while True:
            try:
                note = self._notes.get(timeout=IDLE_S)
            except queue.Empty:
                self._let_go()
                continue
            if note is None:
                self._let_go()
                return
            try:
                self._runs[note["application"]] = self._write(note)
                self.runs += 1
                self.problem = None
            except (OSError, ValueError, MlflowProblem) as error:
                self.failures += 1
                self.problem = text_without_secrets(str(error))
                log.warning(
                    "MLflow did not take version %d: %s",
                    note["version"],
                    error,
                    extra={"application": note["application"]},
                )
                self._let_go()

    def _write(self, note: Mapping[str, Any]) -> str:
        if self._writer is None:
            self._writer = subprocess.Popen(
                [sys.executable, "-m", "bakehouse_learner.artifacts.mlflow_writer"],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._writer.stdin is not None and self._writer.stdout is not None
        self._writer.stdin.write(json.dumps(note) + "\n")
        self._writer.stdin.flush()
        too_long = threading.Timer(WRITE_S, self._writer.kill)
        too_long.start()
        line = self._writer.stdout.readline()
        too_long.cancel()
        if not line:
            raise MlflowProblem(f"its process ended, or took longer than {WRITE_S:.0f} s")
        answer = json.loads(line)
        if (restored := answer.get("restored")) is not None:
            log.warning(
                "MLflow's experiment %s had been deleted, and takes runs again",
                restored,
                extra={"application": note["application"]},
            )
        if "run" not in answer:
            raise MlflowProblem(answer["problem"])
        run: str = answer["run"]
        return run

    def _let_go(self) -> None:
        """End the writing process; the next note starts another."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        assert writer.stdin is not None and writer.stdout is not None
        try:
            writer.stdin.close()
            writer.wait(timeout=STOP_S)
        except (OSError, subprocess.TimeoutExpired):
            writer.kill()
            writer.wait()
        writer.stdout.close()


def note_of(
    application: Application, candidate: Candidate, bundle: Path, *, new_anchor: bool
) -> dict[str, Any]:
    """What goes to MLflow of a candidate: JSON all the way down."""
    agent, report = application.agent, candidate.report.as_dict()
    freeze = candidate.last_freeze
    numbers: dict[str, Any] = {
        **candidate.losses,
        "experiences": candidate.experiences,
        "new_experiences": candidate.new_experiences,
        "epsilon": candidate.exploration.epsilon,
        "replay_version": candidate.replay_version,
        "stream_time_ms": candidate.stream_time_ms,
        **{f"gate.{key}": value for key, value in report["evidence"].items()},
    }
    return {
        "application": application.name,
        "version": candidate.version,
        "bundle": str(bundle),
        "tags": {
            "anchor": str(new_anchor).lower(),
            "reason": candidate.report.reason[:500],
            **({"freeze": freeze["reason"][:500]} if freeze else {}),
        },
        "parameters": {
            "agent": agent.name,
            **{f"agent.{key}": str(value) for key, value in agent.parameters.items()},
            "contract": application.contract,
            "version": candidate.version,
            "replay_version": candidate.replay_version,
            "seed": application.training.seed,
        },
        "metrics": {
            key: float(value)
            for key, value in numbers.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        },
        "gate": report | ({"last_freeze": freeze} if freeze else {}),
    }
