"""`python -m bakehouse_learner.artifacts.mlflow_writer`: writes runs to MLflow, one JSON line each.

A process of its own, at low priority: importing MLflow and its libraries takes seconds of
Python, which in the learner's process would be taken from the training. Answers each line with a
line `{"run": id}` or `{"problem": text}`, with `"restored": name` where an experiment had been
deleted, and ends with its input. The store is that of the settings, and so in no argument: other
users of the machine can read those.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from bakehouse_learner.artifacts.mlflow_database import NICENESS, ensure_database
from bakehouse_schemas.process.settings import load_settings

# MLflow's own are 7 and 120: minutes for a server that is away. What is set already stays.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


class Writer:
    """One tracking store.

    Args:
        uri: of the store and its registry.
        artifacts: folder for what runs leave behind, where the store has no server to take it.

    Raises:
        MlflowDatabaseError: it is a SQLite file, and cannot be made or read.
    """

    def __init__(self, uri: str, artifacts: Path) -> None:
        ensure_database(uri)
        from mlflow.tracking import MlflowClient

        self.client: Any = MlflowClient(uri, uri)
        self.restored: list[str] = []  # experiments that somebody had deleted
        self._artifacts = artifacts if uri.startswith("sqlite:") else None

    def record(self, note: Mapping[str, Any]) -> str:
        """Write one published candidate down as a run; returns the run's id."""
        client, name = self.client, note["application"]
        run = client.create_run(
            self.experiment(name), run_name=f"{name}-{note['version']}", tags=note["tags"]
        )
        run_id: str = run.info.run_id
        for key, value in note["parameters"].items():
            client.log_param(run_id, key, value)
        for key, number in note["metrics"].items():
            client.log_metric(run_id, key, number, step=note["version"])
        client.log_dict(run_id, note["gate"], "gate.json")
        if Path(note["bundle"]).is_dir():
            client.log_artifacts(run_id, note["bundle"], "bundle")
        client.set_terminated(run_id)
        self._register(name, run_id, run.info.artifact_uri)
        return run_id

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, made where there is none.

        One that was deleted in MLflow's page is only marked so, and takes no run: it is restored.
        """
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
                self.restored.append(name)
            return str(found.experiment_id)
        where = None if self._artifacts is None else (self._artifacts / name).as_uri()
        return str(self.client.create_experiment(name, where))

    def _register(self, name: str, run_id: str, artifacts: str) -> None:
        """A new version of the model `name`: the champion, and the one before is `previous`."""
        from mlflow.exceptions import MlflowException

        client = self.client
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        before = client.get_registered_model(name).aliases.get("champion")
        made = client.create_model_version(name, f"{artifacts}/bundle", run_id)
        if before is not None:
            client.set_registered_model_alias(name, "previous", before)
        client.set_registered_model_alias(name, "champion", made.version)


def quieten() -> None:
    """MLflow says what it does, and its libraries warn of each other: not here.

    Nor does it try for minutes to reach a server that is away. Before it is imported.
    """
    warnings.simplefilter("ignore")  # MLflow's own, of itself and of SQLAlchemy
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")  # read when it is imported
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)


def main() -> None:
    """Serve standard input until it ends."""
    os.nice(NICENESS)
    quieten()
    settings = load_settings()
    answers = _answers()
    writer: Writer | None = None
    for line in sys.stdin:
        answer: dict[str, Any]
        try:
            writer = writer or Writer(
                settings.mlflow_tracking_uri, settings.home.resolve() / "mlflow-artifacts"
            )
            answer = {"run": writer.record(json.loads(line))}
        except Exception as error:  # MLflow's own, its database's, its server's
            answer = {"problem": f"{type(error).__name__}: {error}"}
        if writer is not None and writer.restored:
            answer["restored"] = writer.restored.pop()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answers() -> TextIO:
    """What standard output was; from now on that is standard error.

    MLflow prints to standard output what it has written to a server, and others may do so too.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    main()
