"""What the README says can be copied and works."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from bakehouse.cli import app
from schemas.application import Application
from schemas.loading import load_application

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> str:
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL))


COMMANDS = re.findall(r"uv run bakehouse ([^#\n]+)", blocks("sh"))


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_is_one_that_the_command_line_takes(line):
    name, *arguments = shlex.split(line)
    group = get_command(app)
    command = group.commands[name]  # type: ignore[attr-defined]
    assert command.make_context(name, arguments).info_name == name


def test_the_readme_shows_commands():
    assert {line.split()[0] for line in COMMANDS} >= {"demo", "status", "kill", "revive"}


def test_the_page_of_the_readme_is_an_application(tmp_path):
    page = tmp_path / "my_game.py"
    page.write_text(blocks("python"))
    loaded = load_application(str(page)).application
    assert isinstance(loaded, Application)
    assert loaded.baseline_action({"skill": 0.5}) == "normal"


def test_ci_runs_the_test_command_of_the_readme():
    assert "uv run pytest\n" in blocks("sh")
    assert "\nuv run pytest\n" in (ROOT / ".ci" / "run").read_text()


def test_every_benchmark_that_the_readme_names_exists():
    for name in re.findall(r"tests\.bench (\w+)", README):
        assert (ROOT / "tests" / "bench" / f"{name}.py").exists(), name


def test_every_file_that_the_readme_links_to_exists():
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / link).exists(), link
