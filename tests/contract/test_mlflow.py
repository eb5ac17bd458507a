"""Runs are written to a real MLflow: to a server over HTTP, and to a file that is made once."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bakehouse.local.ports import keep_ports
from bakehouse_learner.artifacts.mlflow_database import (
    MlflowDatabaseError,
    ensure_database,
    revisions,
)
from bakehouse_learner.online.mlflow_tracking import MlflowTracker
from bakehouse_schemas.process.settings import Settings
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.full,
    pytest.mark.filterwarnings("ignore"),
]  # MLflow's client, of itself and of SQLAlchemy


def note(version: int, bundle: Path) -> dict[str, Any]:
    return {
        "application": "levels",
        "version": version,
        "tags": {"anchor": "true"},
        "parameters": {"agent": "lin_ucb"},
        "metrics": {"loss": 0.5},
        "gate": {"publish": True},
        "bundle": str(bundle),
    }


def write(settings: Settings, *notes: dict[str, Any]) -> MlflowTracker:
    """A tracker that has taken these."""
    tracker = MlflowTracker(settings, {})
    for one in notes:
        tracker._notes.put(one)
    tracker.start()
    finish(tracker)
    return tracker


def finish(tracker: MlflowTracker) -> None:
    tracker._notes.put(None)
    tracker.join(240)
    assert not tracker.is_alive()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that is whole; to be copied."""
    file = tmp_path_factory.mktemp("whole") / "mlflow.db"
    ensure_database(f"sqlite:///{file}")
    return file


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[str]:
    """The address of a real MLflow server."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(database, folder / "mlflow.db")
    port = keep_ports(folder / "ports.json", ["mlflow"])["mlflow"]
    said = (folder / "log").open("w+")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
            *("--artifacts-destination", str(folder / "artifacts")),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        cwd=folder,
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # four processes more
        stdout=said,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        return b"Uvicorn running" in (folder / "log").read_bytes()

    try:
        wait_until(answers, "MLflow's server listens", patience_s=180)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)
        said.close()


def client_of(uri: str) -> Any:
    from mlflow.tracking import MlflowClient  # seconds of import

    return MlflowClient(uri, uri)


def test_runs_are_written_to_a_server_also_after_their_experiment_was_deleted(
    server: str, bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = MlflowTracker(Settings(home=tmp_path, mlflow_uri=server), {})
    tracker.start()
    for version in (1, 2):
        tracker._notes.put(note(version, bundle))
    client = client_of(server)
    wait_until(lambda: tracker.runs + tracker.failures == 2, "two are written", patience_s=180)
    assert (tracker.runs, tracker.failures, tracker.problem) == (2, 0, None)
    latest = tracker.run_of("levels")
    run = client.get_run(latest)
    assert run.data.metrics == {"loss": 0.5}
    assert [one.path for one in client.list_artifacts(latest, "bundle")] == ["bundle/manifest.json"]
    assert client.get_registered_model("levels").aliases.keys() == {"champion", "previous"}

    client.delete_experiment(run.info.experiment_id)  # as in its page
    with caplog.at_level(logging.WARNING, logger="bakehouse_learner.online.mlflow_tracking"):
        for version in (3, 4):
            tracker._notes.put(note(version, bundle))
        finish(tracker)
    assert (tracker.runs, tracker.failures) == (4, 0)
    assert [one.getMessage() for one in caplog.records] == [
        "MLflow's experiment levels had been deleted, and takes runs again"
    ]
    found = client.get_experiment_by_name("levels")
    assert found.lifecycle_stage == "active"
    names = {one.info.run_name for one in client.search_runs([found.experiment_id])}
    assert names == {f"levels-{version}" for version in (1, 2, 3, 4)}


def test_a_server_that_is_away_is_given_up_within_a_minute_and_its_reason_is_kept(
    bundle: Path, tmp_path: Path
) -> None:
    port = keep_ports(tmp_path / "ports.json", ["mlflow"])["mlflow"]  # nobody listens
    settings = Settings(home=tmp_path, mlflow_uri=f"http://me:verysecret@127.0.0.1:{port}")
    began_s = time.monotonic()
    tracker = write(settings, note(1, bundle))
    assert time.monotonic() - began_s < 120  # MLflow's import on a busy machine; else 240 to 300
    assert (tracker.runs, tracker.failures) == (0, 1)
    assert tracker.problem is not None
    assert "127.0.0.1" in tracker.problem
    assert "verysecret" not in tracker.problem


def is_whole(file: Path) -> bool:
    with closing(sqlite3.connect(file)) as opened:
        return opened.execute("select version_num from alembic_version").fetchall() == [
            (revisions()[1],)
        ]


def files(home: Path) -> set[str]:
    return {path.name for path in home.iterdir() if not path.name.endswith(".lock")}


def test_a_database_that_many_make_at_once_is_made_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    threads = [threading.Thread(target=ensure_database, args=[uri]) for _ in range(3)]
    for thread in threads:
        thread.start()
    # and a person's `mlflow ui` makes it in place meanwhile
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", uri]
    person = subprocess.run(command, capture_output=True, text=True, check=False)
    for thread in threads:
        thread.join(240)
    assert person.returncode == 0, person.stderr
    assert is_whole(tmp_path / "mlflow.db")
    assert files(tmp_path) == {"mlflow.db"}


def half_made(database: Path, home: Path, *, revision: str, also: str = "") -> str:
    """What was left by two that made it at once; nobody has written to it for a while."""
    file = home / "mlflow.db"
    shutil.copy(database, file)
    with closing(sqlite3.connect(file)) as opened, opened:
        opened.executescript(f"update alembic_version set version_num = '{revision}'; {also}")
    os.utime(file, (1.0, 1.0))
    return f"sqlite:///{file}"


def test_a_database_that_was_left_half_made_is_put_aside_and_another_is_begun(
    database: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri = half_made(
        database,
        tmp_path,
        revision="451aebb31d03",
        also="create table _alembic_tmp_params (key text)",
    )
    with caplog.at_level(logging.WARNING, logger="bakehouse_learner.artifacts.mlflow_database"):
        ensure_database(uri)
    assert is_whole(tmp_path / "mlflow.db")
    [aside] = tmp_path.glob("mlflow.db.half-made-*")
    assert aside.name in caplog.text
    assert "another is begun" in caplog.text
    assert files(tmp_path) == {"mlflow.db", aside.name}


def test_a_database_of_another_release_of_mlflow_is_left_alone(
    database: Path, tmp_path: Path
) -> None:
    uri = half_made(database, tmp_path, revision="ffffffffffff")
    before = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(MlflowDatabaseError, match="another release of MLflow"):
        ensure_database(uri)
    assert (tmp_path / "mlflow.db").read_bytes() == before
    assert files(tmp_path) == {"mlflow.db"}


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database")
    with pytest.raises(MlflowDatabaseError, match="cannot be read"):
        ensure_database(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert (tmp_path / "mlflow.db").read_text() == "this is no database"
