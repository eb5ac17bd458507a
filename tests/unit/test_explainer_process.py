"""The process that serving asks for explanations: there when asked, and gone with serving."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
import pytest

from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.settings import Settings
from bakehouse_serving.explain.__main__ import NICENESS
from bakehouse_serving.explain.client import ExplainerClient
from tests.unit.test_explain import Game
from tests.unit.test_serving_http import LEVELS, Server
from tests.waiting import wait_until

PAGE = """
from datetime import timedelta

from bakehouse_schemas.application.application import Application, Discrete
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.reward import Reward

print("a page may print")
application = Application(
    name="levels",
    observation=[Numeric("skill", low=0, high=1)],
    actions=Discrete("easy", "normal", "hard"),
    reward=Reward({"won": 1.0}, window=timedelta(minutes=1)),
    baseline=lambda context: "normal",
)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from bakehouse_schemas.decisions.slot import version_zero
    from bakehouse_schemas.loading import load_application

    folder = tmp_path_factory.mktemp("home")
    (folder / "page.py").write_text(PAGE)
    game = Game(folder, load_application(str(folder / "page.py")).application)
    row = game.decide(version_zero(game.application))
    game.table.append([row])
    (folder / "id").write_text(row["decision_id"])
    return folder


@pytest.fixture
def asking(home: Path) -> Iterator[ExplainerClient]:
    explainer = ExplainerClient(Settings(home=home), [str(home / "page.py")])
    yield explainer
    explainer.stop()


def test_it_is_started_by_the_first_question_niced_and_kept(home, asking):
    assert asking.process_id is None
    answered = asking.ask("levels", (home / "id").read_text())
    assert answered.status == 200 and answered.body["exact"] is True
    first = asking.process_id
    assert first is not None
    assert psutil.Process(first).nice() == min(19, os.nice(0) + NICENESS)
    assert asking.ask("levels", uuid7(1_000_000)).status == 404
    assert asking.process_id == first


def test_one_that_was_killed_is_started_again(home, asking):
    assert asking.ask("levels", (home / "id").read_text()).status == 200
    killed = asking.process_id
    psutil.Process(killed).kill()
    assert asking.ask("levels", (home / "id").read_text()).status == 200
    assert asking.process_id not in (None, killed)


def test_it_answers_a_process_that_holds_a_thousand_connections(home, asking):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2_000, hard), hard))
    held = [os.open(home / "id", os.O_RDONLY) for _ in range(1_100)]
    try:
        assert asking.ask("levels", (home / "id").read_text()).status == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for handle in held:
            os.close(handle)


def test_it_ends_with_whoever_asked_however_that_ends(home):
    asks = (
        "import os, sys; from bakehouse_schemas.process.settings import Settings; "
        "from bakehouse_serving.explain.client import ExplainerClient; from pathlib import Path; "
        f"asking = ExplainerClient(Settings(home=Path({str(home)!r})), "
        f"[{str(home / 'page.py')!r}]); "
        f"asking.ask('levels', {(home / 'id').read_text()!r}); "
        "print(asking.process_id, flush=True); os.kill(os.getpid(), 9)"
    )
    asked = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True)
    pid = int(asked.stdout.splitlines()[-1])
    wait_until(lambda: not psutil.pid_exists(pid), "the process has ended")


def test_it_ends_by_itself_when_nobody_asks(home):
    environment = os.environ | {"BAKEHOUSE_HOME": str(home)}
    words = [
        sys.executable,
        "-m",
        "bakehouse_serving.explain",
        str(home / "page.py"),
        "--idle-s",
        "0.1",
    ]
    with subprocess.Popen(words, stdin=subprocess.PIPE, env=environment) as process:
        assert process.wait(60) == 0


def test_over_time_it_is_ended_and_said_so(home):
    hasty = ExplainerClient(Settings(home=home), [str(home / "page.py")], limit_s=0.01)
    assert hasty.ask("levels", (home / "id").read_text()).status == 504
    assert hasty.process_id is None


def test_the_keys_of_serving_are_not_handed_on(home):
    settings = Settings(home=home, api_keys="admin:" + "k" * 48)
    environment = ExplainerClient(settings, ["page.py"])._environment
    assert environment["BAKEHOUSE_HOME"] == str(home)
    assert not any("k" * 48 in value for value in environment.values())


def test_one_question_can_be_asked_without_serving(home):
    words = [
        sys.executable,
        "-m",
        "bakehouse_serving.explain",
        str(home / "page.py"),
        "--decision",
    ]
    environment = os.environ | {"BAKEHOUSE_HOME": str(home)}
    told = subprocess.run(
        [*words, (home / "id").read_text()], capture_output=True, env=environment, check=True
    )
    assert orjson.loads(told.stdout)["decision_id"] == (home / "id").read_text()
    unknown = subprocess.run([*words, uuid7(1_000_000)], capture_output=True, env=environment)
    assert unknown.returncode == 2
    assert orjson.loads(unknown.stdout)["error"] == "DecisionNotFound"


def test_over_http_ids_are_checked_before_anything_is_started(tmp_path):
    server = Server(tmp_path)
    refused = server.request("GET", f"{LEVELS}/decisions/{'x' * 129}")
    assert refused.status_code == 422 and "1 to 128 bytes" in refused.json()["detail"]
    assert server.request("GET", f"/v1/applications/none/decisions/{uuid7()}").status_code == 404
    for decision_id in (uuid7(), "match%2F7%20%C3%A9"):
        assert server.request("GET", f"{LEVELS}/decisions/{decision_id}").status_code == 501
