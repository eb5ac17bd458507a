"""Addresses are told, logged, printed and handed on without the secrets in them."""

from __future__ import annotations

import io
import json
import logging
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bakehouse import FromRedis, FromTable, output
from bakehouse.doctor import examine
from bakehouse_learner.online.mlflow_tracking import MlflowTracker
from bakehouse_schemas.errors import SettingsError, StackError
from bakehouse_schemas.process.addresses import text_without_secrets, without_secrets
from bakehouse_schemas.process.logs import formatter
from bakehouse_schemas.process.settings import Settings, load_settings
from bakehouse_serving.dashboard.view import dashboard_settings
from bakehouse_serving.explain.client import _environment
from tests.unit.test_serving_http import Server

SECRET = "S3cretPassw0rd"
ADDRESSES = [
    f"postgresql://mlflow:{SECRET}@db.internal/mlflow",
    f"postgresql://mlflow:{SECRET}/more@db.internal/mlflow",
    f"postgresql://db.internal/mlflow?user=mlflow&password={SECRET}",
    f"https://me:{SECRET}@db.internal:5000/base",
    f"https://me:p@{SECRET}@db.internal/base",
    f"https://{SECRET}@db.internal/base",
    f"s3://key:{SECRET}@db.internal/tables?secret_access_key={SECRET}",
    f"az://db.internal/tables?sv=1&sig={SECRET}%2F",
    f"redis://:{SECRET}@db.internal:6379/0",
    f"mssql+pyodbc:///db.internal?odbc_connect=PWD%3D{SECRET}",
]
every_address = pytest.mark.parametrize("address", ADDRESSES)


@every_address
def test_an_address_is_shown_without_what_may_be_secret(address: str) -> None:
    told = text_without_secrets(f"cannot reach {address} : refused")
    for shown in (without_secrets(address), told):
        assert SECRET not in shown
        assert "db.internal" in shown
    assert told.startswith("cannot reach ")
    assert told.endswith(" : refused")


@pytest.mark.parametrize(
    "address",
    [
        "players.parquet",
        "sqlite:////home/a/.bakehouse/mlflow.db",
        "http://127.0.0.1:5000/teams/a@b",
        "s3://bucket/tables/a@b",
        "postgresql://db.internal:5432/mlflow",
        "/home/a@b/tables",
    ],
)
def test_an_address_without_secrets_is_shown_as_it_is(address: str) -> None:
    assert text_without_secrets(address) == without_secrets(address) == address


def test_a_query_is_not_shown_where_an_address_stands_alone() -> None:
    assert without_secrets("s3://me:secret@host/table?token=x") == "s3://host/table"


@every_address
def test_no_address_of_the_settings_is_in_their_text_or_in_an_error(address: str) -> None:
    settings = Settings(mlflow_uri=address, tables_uri=address)
    assert SECRET not in repr(settings) + str(settings)
    assert "db.internal" in repr(settings)
    with pytest.raises(SettingsError) as refused:
        load_settings({"BAKEHOUSE_TRACE_ENDPOINT": address.replace("https", "ftp"), "X": ""})
    assert SECRET not in str(refused.value)


def test_a_login_in_the_address_of_kafka_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError, match="kafka_bootstrap") as refused:
        load_settings({"BAKEHOUSE_KAFKA_BOOTSTRAP": f"me:{SECRET}@broker:9092"})
    assert SECRET not in str(refused.value)


@every_address
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_log_line_tells_no_secret_of_an_address(address: str, log_format: Any) -> None:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(formatter("stream", log_format))
    log = logging.Logger("stream")
    log.addHandler(handler)
    try:
        raise StackError(f"cannot reach {address}")
    except StackError as error:
        log.exception("%s: %s", address, error, extra={"store": address})
    assert SECRET not in said.getvalue()
    assert "db.internal" in said.getvalue()
    if log_format == "json":
        assert json.loads(said.getvalue())["level"] == "ERROR"


@every_address
def test_commands_print_no_secret_of_an_address(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output.say_json({"problem": f'said "{address}"', "source": address})
    output.say(f"from {address}")
    output.complain(f"cannot read {address}")
    output.words_table({"tables": address})
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    json.loads(printed.out.splitlines()[0])


@every_address
def test_the_dashboard_is_told_no_secret_of_mlflows_address(address: str, tmp_path: Path) -> None:
    told = dashboard_settings(Settings(home=tmp_path, mlflow_uri=address))
    assert SECRET not in repr(told)
    assert told.mlflow_url is not None or told.mlflow_command is not None


def test_the_dashboard_names_a_homes_own_mlflow_once_the_learner_has_made_it(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path)
    settings = Settings(home=tmp_path)

    def told() -> Any:
        return server.live.view("levels")["mlflow"]

    assert told() == {"url": None, "command": None}
    settings.mlflow_file.touch()
    command = f"uv run mlflow ui --backend-store-uri sqlite:///{tmp_path.resolve()}/mlflow.db"
    assert told() == {"url": None, "command": command}
    server.close()


@every_address
def test_what_writes_runs_gets_the_store_by_its_environment_and_by_no_argument(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []

    def start(command: list[str], *, env: dict[str, str], **_: Any) -> Any:
        started.append((command, env))
        raise OSError("not in this test")

    monkeypatch.setattr(subprocess, "Popen", start)
    tracker = MlflowTracker(Settings(home=tmp_path, mlflow_uri=address), {})
    tracker._notes.put({"application": "levels", "version": 1})
    tracker._notes.put(None)
    tracker.run()
    [(command, environment)] = started
    assert SECRET not in " ".join(command)
    assert load_settings(environment).mlflow_uri == address
    assert tracker.failures == 1


def test_the_process_that_explains_decisions_gets_no_store_of_runs(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, mlflow_uri=ADDRESSES[0], tables_uri=ADDRESSES[6])
    environment = _environment(settings, {"BAKEHOUSE_MLFLOW_URI": ADDRESSES[0]})
    assert "BAKEHOUSE_MLFLOW_URI" not in environment
    assert environment["BAKEHOUSE_TABLES_URI"] == ADDRESSES[6]  # which it reads


def test_hydration_says_no_secret_of_its_address() -> None:
    table = FromTable(ADDRESSES[6], key="subject_id", columns=["x"])
    redis = FromRedis(ADDRESSES[8])
    assert SECRET not in repr(table) + table.words() + repr(redis) + redis.words()


def test_doctor_says_no_secret_of_an_address(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, mlflow_uri=ADDRESSES[0], tables_uri=ADDRESSES[6])
    assert SECRET not in repr(examine(settings))
