"""The command: one clear message for what it refuses, JSON for programs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from bakehouse import cli, doctor
from bakehouse.commands.init import write
from bakehouse.doctor import Finding
from bakehouse.local.home import Run, hold
from bakehouse_schemas.process.settings import Settings

APPLICATION = "applications/level_difficulty.py"


@contextmanager
def answering(answers: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The address of a server that answers these paths."""

    class Serving(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answers[self.path]).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Serving) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Ran:
    """Exit status and output of one command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out.splitlines()[-1])


@pytest.fixture
def bakehouse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Any:
    monkeypatch.setenv("BAKEHOUSE_HOME", str(tmp_path / "home"))

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["bakehouse", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        code = stopped.value.code
        return Ran(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


def test_check_says_the_contract_in_words(bakehouse: Any) -> None:
    ran = bakehouse("check", APPLICATION)
    assert ran.code == 0
    words = " ".join(ran.out.split())
    assert "skill: a number from 0 to 1; required" in words
    assert "a decision is worth the sum of its outcomes" in words
    described = bakehouse("check", APPLICATION, "--json").json
    assert described["actions"] == ["easy", "normal", "hard"]
    assert described["contract"] in words
    assert "rate" not in described


def test_check_says_whether_a_buffer_holds_a_rate(bakehouse: Any) -> None:
    few = bakehouse("check", APPLICATION, "--rate", "10", "--json")
    many = bakehouse("check", APPLICATION, "--rate", "1000000", "--json")
    assert "each matures before it leaves" in few.json["rate"]
    assert "ONLY WHAT OUTCOMES CLOSE EARLY MATURES" in many.json["rate"]
    assert (few.code, many.code) == (0, 0)
    assert bakehouse("check", APPLICATION, "--rate", "0").code == 2


def test_a_name_that_check_doubts_is_said_on_a_line_of_its_own(
    bakehouse: Any, tmp_path: Path
) -> None:
    page, _ = write("quests", "labels", tmp_path)
    page.write_text(page.read_text().replace('{"quest_done": 1.0', '{"quest_doen": 1.0'))
    ran = bakehouse("check", str(page))
    assert ran.code == 0
    assert ran.err.startswith("the players cause quest_done, which the reward does not count")
    assert bakehouse("check", str(page), "--json").json["caution"] in ran.err
    assert bakehouse("check", APPLICATION).err == ""


@pytest.mark.parametrize("as_json", [False, True])
def test_an_application_that_is_not_there_is_one_message_and_exit_2(
    bakehouse: Any, as_json: bool
) -> None:
    ran = bakehouse("check", "nowhere.py", *(["--json"] if as_json else []))
    assert ran.code == 2
    assert "there is no such file" in ran.err
    assert "Traceback" not in ran.err
    assert ran.out == "" or ran.json["error"] == "ApplicationError"


@pytest.mark.parametrize(
    "command",
    [["status"], ["kill", "--why", "x"], ["promote", "3", "--why", "x"], ["policies"], ["logs"]],
)
def test_without_a_stack_the_message_says_how_to_get_one(
    bakehouse: Any, command: list[str]
) -> None:
    ran = bakehouse(*command)
    assert ran.code == 2
    assert "stack" in ran.err or "log" in ran.err


def test_the_package_runs_as_the_command_does() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "bakehouse", "--version"], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("bakehouse")


def test_help_begins_where_a_page_is_written(bakehouse: Any) -> None:
    words = bakehouse("--help").out
    assert words.index("learns while the game is being played") < words.index("Write a page")
    assert words.index("Write a page") < words.index("init") < words.index("Run a stack")


COMMANDS = {name: one.help or "" for name, one in get_command(cli.app).commands.items()}  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_example_of_a_help_is_a_line_that_can_be_pasted(
    bakehouse: Any, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.strip() for line in bakehouse(command, "--help").out.splitlines()]
    examples = lines[: next(at for at, line in enumerate(lines) if line.startswith("╭"))]
    said = [line for line in examples if re.match(r"(uv run )?bakehouse \S", line)]
    written = re.findall(r"\[bold\](.*?)\[/\]", COMMANDS[command])
    assert said == [one for one in written if "bakehouse" in one]
    assert not [line for line in examples if line.startswith("|")]
    headings = [at for at, line in enumerate(examples) if re.match("Examples?:", line)]
    assert len(headings) == bool(said)
    for at in headings:  # below a heading there is nothing else
        assert [line for line in examples[at + 1 :] if line] == said


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("init", "bakehouse init [OPTIONS] NAME"),
        ("check", "bakehouse check [OPTIONS] REF"),
        ("up", "bakehouse up [OPTIONS] REF…"),
        ("simulate", "bakehouse simulate [OPTIONS] REF"),
        ("logs", "bakehouse logs [OPTIONS] [PART]"),
        ("promote", "bakehouse promote [OPTIONS] VERSION"),
    ],
)
def test_a_usage_names_its_arguments_as_the_help_does(
    bakehouse: Any, command: str, usage: str
) -> None:
    (line,) = (line for line in bakehouse(command, "--help").out.splitlines() if "Usage:" in line)
    assert line.strip() == f"Usage: {usage}"


@pytest.mark.parametrize(
    ("terminal", "words", "stays"),
    [
        (True, [], True),
        (False, [], False),
        (True, ["--json"], False),
        (True, ["--no-stay"], False),
        (False, ["--stay"], True),
        (False, ["--stay", "--json"], True),
    ],
)
def test_a_demo_stays_on_a_terminal_unless_it_is_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, words: list[str], stays: bool
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "bakehouse.demo.demo.run_demo", lambda **options: asked.append(options) or 0
    )
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.app(["demo", *words])
    assert ended.value.code == 0
    assert [options["stay"] for options in asked] == [stays]


def test_a_shell_can_complete_commands() -> None:
    def run(*words: str, **variables: str) -> str:
        return subprocess.run(
            [Path(sys.executable).with_name("bakehouse"), *words],
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    asked = {"_BAKEHOUSE_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    assert run(**asked, COMP_WORDS="bakehouse pol").split() == ["policies"]
    assert "complete -o default -F" in run("--show-completion", "bash")
    assert "--install-completion" not in run("status", "--help")


@pytest.mark.parametrize("share", ["nan", "3", "-0.1", "lots"])
def test_a_share_that_is_none_is_refused_before_anything_is_asked(
    bakehouse: Any, share: str
) -> None:
    ran = bakehouse("explore", "--why", "x", "--", share)
    assert ran.code == 2
    assert f"'{share}': expected a share from 0 to 1" in ran.err


@pytest.mark.parametrize("command", ["compare", "tune", "simulate", "demo"])
def test_a_rate_at_which_nothing_would_ever_end_is_refused(bakehouse: Any, command: str) -> None:
    ran = bakehouse(command, *([] if command == "demo" else [APPLICATION]), "--rate", "0")
    assert (ran.code, "greater than or equal to 0.01" in " ".join(ran.err.split())) == (2, True)


def test_an_address_without_its_scheme_is_refused_with_one_that_has_it(bakehouse: Any) -> None:
    ran = bakehouse("status", "--url", "localhost:8080")
    assert (ran.code, "such as http://127.0.0.1:8080" in ran.err) == (2, True)


def test_the_one_application_at_an_address_need_not_be_named(bakehouse: Any) -> None:
    answers = {
        "/v1/applications": {"applications": [{"name": "quests"}]},
        "/v1/applications/quests/policy": {"policy_version": 5, "swaps": 1},
        "/v1/applications/quests/audit": {"entries": []},
    }
    with answering(answers) as url:
        assert bakehouse("audit", "--url", url, "--json").json["application"] == "quests"
        answers["/v1/applications"]["applications"].append({"name": "shop"})
        ran = bakehouse("audit", "--url", url)
    assert (ran.code, "serves quests, shop; name one with --application" in ran.err) == (2, True)


def test_status_of_an_application_that_does_not_run_is_refused_with_those_that_do(
    bakehouse: Any, tmp_path: Path
) -> None:
    with hold(tmp_path / "home"):
        Run(1, "http://127.0.0.1:1", "", [APPLICATION], ["quests"], 0).write(tmp_path / "home")
        ran = bakehouse("status", "--application", "quest")
    assert (ran.code, "'quest' is not served" in ran.err, "there is quests" in ran.err) == (
        2,
        True,
        True,
    )


def test_a_picture_of_no_known_kind_is_refused_before_anything_is_compared(bakehouse: Any) -> None:
    ran = bakehouse("compare", APPLICATION, "--plot", "curves.foo")
    assert (ran.code, "ends in .png, .svg, .pdf; nothing was compared" in ran.err) == (2, True)


def test_reset_removes_what_a_stack_left_and_nothing_else(bakehouse: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "kafka" / "data").mkdir(parents=True)
    (home / "mlflow.db").write_text("runs")
    (home / "notes.txt").write_text("a person's")
    assert bakehouse("reset", "--json").code == 2  # it asks, and nobody answers
    assert (home / "kafka").exists()
    assert len(bakehouse("reset", "--yes", "--json").json["removed"]) == 2
    assert sorted(path.name for path in home.iterdir()) == ["lock", "notes.txt"]


def test_reset_refuses_while_a_stack_runs(bakehouse: Any, tmp_path: Path) -> None:
    (tmp_path / "home" / "kafka").mkdir(parents=True)
    with hold(tmp_path / "home"):
        ran = bakehouse("reset", "--yes")
    assert ran.code == 2
    assert "is in use" in ran.err
    assert (tmp_path / "home" / "kafka").exists()


def test_logs_of_one_part_are_its_last_lines(bakehouse: Any, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "logs"
    folder.mkdir(parents=True)
    (folder / "learner.log").write_text("".join(f"line {n}\n" for n in range(10)))
    assert bakehouse("logs", "learner", "--lines", "2").out == "line 8\nline 9\n"
    ran = bakehouse("logs", "stream")
    assert ran.code == 2
    assert "there is: learner" in ran.err


def test_logs_in_json_are_shown_as_lines_that_read_well(bakehouse: Any, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "logs"
    folder.mkdir(parents=True)
    said = {"at": "2026-11-24T15:38:34.123Z", "level": "ERROR", "part": "learner", "logger": "loop"}
    said |= {"message": "a turn failed", "application": "game", "exception": "Traceback\nKeyError"}
    (folder / "learner.log").write_text(json.dumps(said) + "\n")
    shown = "2026-11-24T15:38:34.123Z ERROR loop: a turn failed  (application=game)"
    assert bakehouse("logs", "learner").out == f"{shown}\nTraceback\nKeyError\n"
    lines = bakehouse("logs").out.splitlines()
    assert lines == [f"   learner  {line}" for line in (shown, "Traceback", "KeyError")]
    assert json.loads(bakehouse("logs", "--json").out)["line"] == json.dumps(said)


def test_every_command_takes_json(bakehouse: Any) -> None:
    import typer.main

    group = typer.main.get_command(cli.app)
    commands: dict[str, Any] = group.commands  # type: ignore[attr-defined]
    assert {"demo", "up", "stream", "learn", "serve", "doctor", "status"} <= set(commands)
    for name, command in commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--json" in options, name
        assert command.help, name


def test_doctor_exits_with_1_when_something_blocks(
    bakehouse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = [Finding("Java", "blocks", "none", "install one"), Finding("disk", "ok", "9 GiB")]
    monkeypatch.setattr(doctor, "examine", lambda _settings: findings)
    ran = bakehouse("doctor")
    assert ran.code == 1
    assert "install one" in ran.out
    report = bakehouse("doctor", "--json")
    assert (report.code, report.json["ok"]) == (1, False)


def test_doctor_names_a_taken_port_and_a_kafka_that_does_not_answer() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = doctor.port(Settings(port=other.getsockname()[1]))
    assert (taken.verdict, "--port 0" in taken.do) == ("blocks", True)
    silent = doctor.kafka(Settings(kafka_bootstrap="127.0.0.1:1"))
    assert (silent.verdict, "127.0.0.1:1" in silent.found) == ("blocks", True)


def test_doctor_says_which_release_was_expected() -> None:
    finding = doctor.package("pydantic", "1.10", "bakehouse")
    assert (finding.verdict, "expected 1.10" in finding.found) == ("blocks", True)
    assert doctor.package("no-such-package", "1", "bakehouse[stream]").do == (
        "`pip install 'bakehouse[stream]'`"
    )


def test_disk_and_memory_are_found_on_this_machine(tmp_path: Path) -> None:
    (finding,) = doctor.disk(tmp_path / "not" / "yet", tmp_path)
    assert "GiB free" in finding.found
    assert "GiB" in doctor.memory().found or "cannot be told" in doctor.memory().found


def test_evaluate_shows_warnings_first_and_answers_programs_in_json(
    bakehouse: Any, tmp_path: Path
) -> None:
    from bakehouse_schemas.loading import load_application
    from tests.logged_worlds import played
    from tests.replay_rows import Table

    loaded = load_application(APPLICATION)
    assert loaded.world is not None
    rows = played(loaded.world, loaded.application, 150, seed=0)
    Table(tmp_path / "home" / "tables").append(rows)
    ran = bakehouse("evaluate", APPLICATION, "--policy", "baseline", "--segment", "segment")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[1].startswith("! ")
    assert "Reward of a decision, as logged:" in ran.out
    assert "doubly robust" in ran.out
    assert "veteran" in ran.out
    assert "the game's rules, without exploration" in ran.out
    answer = bakehouse("evaluate", APPLICATION, "--policy", "baseline", "--json").json
    assert answer["n"] == 150
    # 0 is what answers where nothing was published: it is version 0, the rules with exploration
    assert [p["policy"] for p in answer["policies"]] == ["baseline", "champion", "random"]


def test_evaluate_refuses_in_one_message_what_the_learner_refuses(bakehouse: Any) -> None:
    ran = bakehouse("evaluate", APPLICATION, "--json")
    assert (ran.code, ran.json["error"]) == (2, "InvalidHistory")
    assert "Name the home of a stack that has played" in ran.err
    assert "Traceback" not in ran.err


def test_the_champion_is_what_a_running_stack_answers_with(bakehouse: Any, tmp_path: Path) -> None:
    from bakehouse_schemas.loading import load_application
    from tests.fakes import publish_policy
    from tests.logged_worlds import played
    from tests.replay_rows import Table

    home = tmp_path / "home"
    loaded = load_application(APPLICATION)
    assert loaded.world is not None
    Table(home / "tables").append(played(loaded.world, loaded.application, 100, seed=0))
    for version in (3, 4):  # 4 was rolled back
        publish_policy(home / "policies", loaded.application, version, favourite=1)
    answers = {"/v1/applications/level-difficulty/policy": {"policy_version": 3}}
    with answering(answers) as url, hold(home):
        Run(1, url, "", [APPLICATION], [loaded.application.name], 0).write(home)
        ran = bakehouse("evaluate", APPLICATION, "--against", "random", "--json")
    assert ran.json["policies"][0]["version"] == 3
