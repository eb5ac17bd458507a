"""MLflow, in a thread of its own: what was learned, for people to look at later.

MLflow is imported with the first run, after the first policies are out. Nothing here is waited
for; what fails is logged and counted, and the learning goes on.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from learner.learning import Candidate
from schemas.application import Application
from schemas.settings import Settings

log = logging.getLogger(__name__)

RUN_EVERY_S = 60.0
QUEUED = 8


class Note(NamedTuple):
    """One published candidate."""

    candidate: Candidate
    bundle: Path
    new_anchor: bool


class MlflowTracker(threading.Thread):
    """Runs of the registered models `<application>`; see the module."""

    def __init__(self, settings: Settings, applications: Mapping[str, Application]) -> None:
        super().__init__(name="tracking", daemon=True)
        self._uri = settings.mlflow_tracking_uri
        self._artifacts = settings.home.resolve() / "mlflow-artifacts"
        self._applications = applications
        self._notes: queue.Queue[Note | None] = queue.Queue(maxsize=QUEUED)
        self._last: dict[str, float] = {}
        self._runs: dict[str, str] = {}
        self._champions: dict[str, str] = {}  # application → registered version
        self._client: Any = None
        self.failures = 0
        self.runs = 0

    def offer(self, candidate: Candidate, bundle: Path, *, new_anchor: bool) -> None:
        """Note a published candidate: each anchor, and of the others one a minute."""
        name, now = bundle.parent.name, time.monotonic()
        last = self._last.get(name)
        if not new_anchor and last is not None and now - last < RUN_EVERY_S:
            return
        try:
            self._notes.put_nowait(Note(candidate, bundle, new_anchor))
            self._last[name] = now
        except queue.Full:
            self.failures += 1

    def run_of(self, application: str) -> str | None:
        """The latest run, None before the first."""
        return self._runs.get(application)

    def stop(self) -> None:
        """Finish the run that is being written, a few seconds at most."""
        try:
            self._notes.put_nowait(None)
        except queue.Full:
            return
        if self.is_alive():
            self.join(timeout=10.0)

    def run(self) -> None:
        while (note := self._notes.get()) is not None:
            try:
                self._record(note)
                self.runs += 1
            except Exception as error:  # MLflow's own, its database's, its server's
                self.failures += 1
                log.warning("MLflow did not take version %d: %s", note.candidate.version, error)

    def _record(self, note: Note) -> None:
        client = self._connect()
        candidate, name = note.candidate, note.bundle.parent.name
        application = self._applications[name]
        experiment = self._experiment(client, name)
        run = client.create_run(experiment, run_name=f"{name}-{candidate.version}")
        run_id: str = run.info.run_id
        self._runs[name] = run_id
        for key, value in _parameters(application, candidate).items():
            client.log_param(run_id, key, value)
        for key, number in _metrics(candidate).items():
            client.log_metric(run_id, key, number, step=candidate.version)
        client.log_dict(run_id, candidate.report.as_dict(), "gate.json")
        if note.bundle.is_dir():
            client.log_artifacts(run_id, str(note.bundle), "bundle")
        client.set_terminated(run_id)
        self._register(client, name, run_id, run.info.artifact_uri)

    def _connect(self) -> Any:
        if self._client is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from mlflow.tracking import MlflowClient

                self._client = MlflowClient(self._uri, self._uri)
        return self._client

    def _experiment(self, client: Any, name: str) -> str:
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        where = self._artifacts / name if self._uri.startswith("sqlite:") else None
        return str(client.create_experiment(name, where.as_uri() if where else None))

    def _register(self, client: Any, name: str, run_id: str, artifacts: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = client.create_model_version(name, f"{artifacts}/bundle", run_id)
        champion = self._champions.get(name) or self._alias(client, name)
        if champion is not None:
            client.set_registered_model_alias(name, "previous", champion)
        client.set_registered_model_alias(name, "champion", made.version)
        self._champions[name] = made.version

    def _alias(self, client: Any, name: str) -> str | None:
        aliases = client.get_registered_model(name).aliases
        return str(aliases["champion"]) if "champion" in aliases else None


def _parameters(application: Application, candidate: Candidate) -> dict[str, Any]:
    agent = application.agent
    return {
        "agent": agent.name,
        **{f"agent.{key}": value for key, value in agent.parameters.items()},
        "contract": application.contract,
        "version": candidate.version,
        "replay_version": candidate.replay_version,
        "stream_time_ms": candidate.stream_time_ms,
        "seed": application.training.seed,
    }


def _metrics(candidate: Candidate) -> dict[str, float]:
    report = candidate.report.as_dict()
    numbers: dict[str, Any] = {
        **candidate.losses,
        "experiences": candidate.experiences,
        "new_experiences": candidate.new_experiences,
        "epsilon": candidate.epsilon,
        **{f"gate.{key}": value for key, value in report["evidence"].items()},
    }
    return {
        key: float(value)
        for key, value in numbers.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
