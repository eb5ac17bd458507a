"""`bakehouse init` writes pages that work as they are, and overwrites nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bakehouse.commands.init import TEMPLATES, write
from bakehouse_schemas.errors import StackError
from bakehouse_schemas.loading import load_application

PACKAGES = Path(__file__).parents[2]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={"PYTHONPATH": str(PACKAGES), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("actions", ["labels", "numbers"])
def test_what_is_written_passes_check_and_its_own_test(tmp_path, actions):
    said = run(tmp_path, "bakehouse.cli", "init", "my-quests", "--actions", actions, "--json")
    assert json.loads(said.stdout) == {
        "page": str(tmp_path / "my_quests.py"),
        "test": str(tmp_path / "test_my_quests.py"),
    }, said.stderr
    checked = run(tmp_path, "bakehouse.cli", "check", "my_quests.py", "--json")
    assert json.loads(checked.stdout)["application"] == "my-quests"
    tested = run(tmp_path, "pytest", "-q", "test_my_quests.py")
    assert tested.returncode == 0, tested.stdout
    assert "4 passed" in tested.stdout


def test_a_page_that_cannot_be_is_found_out_by_its_test(tmp_path):
    page, test = write("my_game", "labels", tmp_path)
    page.write_text(page.read_text().replace('"quest_done")', '"quest_won")'))
    tested = run(tmp_path, "pytest", "-q", test.name)
    assert tested.returncode == 1
    assert "the reward gives 'quest_won' no weight" in tested.stdout


# what happens where it went well, its worth by the truth, the reward's names
PARTS = {
    "labels": (
        '[Happening(float(rng.uniform(1.0, 4.0)), "quest_done")]',
        "return chance * 1.0 +",
        '{"quest_done": 1.0, "quest_left": -0.5}',
    ),
    "numbers": (
        '[Happening(float(rng.uniform(1.0, 4.0)), "played_on")]',
        "return self.chance(context, action)\n",
        '{"played_on": 1.0, "left": 0.0}',
    ),
}
TRUTHS = {"labels": "return chance * {} +", "numbers": "return self.chance(context, action) * {}\n"}
LEFT = {"labels": '"quest_left": -0.5', "numbers": '"left": 0.0'}
BUYS = '[Happening(2.0, "revenue_usd", 4.99)]'
TWICE = '[Happening(2.0, "revenue_usd", 4.0), Happening(3.0, "revenue_usd", 1.0)]'
LATE = '[Happening(2.0, "revenue_usd", 4.0), Happening(9.0, "revenue_usd", 100.0)]'


@pytest.mark.parametrize("actions", ["labels", "numbers"])
@pytest.mark.parametrize(
    ("happens", "rule", "worth"),
    [
        (BUYS, '{"revenue_usd": 1.0, LEFT}', "4.99"),
        (BUYS, '{"revenue_usd": 0.01, LEFT}', "0.0499"),
        (TWICE, '{"revenue_usd": 0.5, LEFT}', "2.5"),
        (TWICE, '{"revenue_usd": 1.0, LEFT}, aggregate="max"', "4.0"),
        (TWICE, '{"revenue_usd": 1.0, LEFT}, aggregate="last"', "1.0"),
        (TWICE, '{"revenue_usd": 1.0, LEFT}, aggregate="mean"', "2.5"),
        (TWICE, '{"revenue_usd": 1.0, LEFT}, closes_after=1, late="drop"', "4.0"),
        (LATE, '{"revenue_usd": 1.0, LEFT}', "4.0"),
        (TWICE, "lambda outcomes: sum(o.value or DEFAULT for o in outcomes) / 10", "0.5"),
    ],
)
def test_what_is_written_judges_by_the_pages_own_reward(tmp_path, actions, happens, rule, worth):
    page, test = write("my_game", actions, tmp_path)
    left = {"labels": "-5.0", "numbers": "0.0"}[actions]
    rule = rule.replace("LEFT", LEFT[actions]).replace("DEFAULT", left)
    text = page.read_text()
    truth = TRUTHS[actions].format(worth)
    changes = zip(PARTS[actions], (happens, truth, rule), strict=True)
    for old, new in (*changes, ("closes_after=1,  #", "#")):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    page.write_text(text)
    tested = run(tmp_path, "pytest", "-q", test.name)
    assert tested.returncode == 0, tested.stdout
    page.write_text(text.replace(truth, TRUTHS[actions].format(f"2 * {worth}")))
    tested = run(tmp_path, "pytest", "-q", test.name)
    assert tested.returncode == 1
    assert "FAILED test_my_game.py::test_what_happens_is_worth_what_the_world" in tested.stdout


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "test_my_game.py").write_text("mine")
    with pytest.raises(StackError, match=r"test_my_game\.py in .*: there already"):
        write("my_game", "labels", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["test_my_game.py"]


@pytest.mark.parametrize(
    "name", ["", "My-Game", "9lives", "class", "a/b", "..", "game.py", "x" * 99]
)
def test_a_name_that_cannot_be_one_is_refused(tmp_path, name):
    with pytest.raises(StackError, match="expected 1 to 63 of a-z"):
        write(name, "labels", tmp_path)


@pytest.mark.parametrize("name", ["json", "numpy", "bakehouse", "bakehouse_serving"])
def test_a_name_that_would_hide_a_module_is_refused(tmp_path, name):
    with pytest.raises(StackError, match="would hide"):
        write(name, "labels", tmp_path)


@pytest.mark.parametrize("actions", ["labels", "numbers"])
def test_a_template_is_a_page_as_it_is(actions):
    loaded = load_application(str(TEMPLATES / f"{actions}.py"))
    assert loaded.application.name == "my-game" and loaded.world is not None
