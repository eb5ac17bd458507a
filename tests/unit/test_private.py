"""A home is its user's alone: subjects, contexts and secrets are in it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bakehouse import doctor
from bakehouse.local.home import hold
from bakehouse.local.part import Part
from bakehouse_schemas.process.private import is_open, make_home
from bakehouse_schemas.process.settings import Settings
from tests.waiting import serving_url

GAME = """
from bakehouse import *
application = Application(
    name="levels",
    observation=[Numeric("skill", low=0, high=1)],
    actions=Discrete("easy", "hard"),
    reward=Reward({"won": 1.0}, window=minutes(1)),
    baseline=lambda context: "easy",
)
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_home_is_made_for_its_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    home = tmp_path / "not" / "yet"
    before = os.umask(0)
    try:
        with hold(home):
            assert mode(home) == 0o700
    finally:
        os.umask(before)


@pytest.mark.parametrize("left", [["lock", "kafka"], ["spool"], ["policies"], ["demo-1"], []])
def test_a_home_that_an_earlier_release_left_open_is_closed(
    tmp_path: Path, left: list[str]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in left:
        (home / name).mkdir() if name != "lock" else (home / name).touch()
    home.chmod(0o2755)
    with hold(home):
        assert mode(home) == 0o2700
    assert not is_open(home)


def test_a_folder_of_other_things_and_one_that_all_share_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o755)
    (tmp_path / "mine" / "game.py").touch()
    make_home(tmp_path / "mine")
    assert mode(tmp_path / "mine") == 0o755
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    make_home(tmp_path / "shared")
    assert mode(tmp_path / "shared") == 0o1777


def test_doctor_says_when_others_can_look_into_the_home(tmp_path: Path) -> None:
    home = tmp_path / "my home"
    home.mkdir(mode=0o700)
    assert doctor.home(Settings(home=home)).verdict == "ok"
    home.chmod(0o750)
    finding = doctor.home(Settings(home=home))
    assert finding.verdict == "note"
    assert "0750" in finding.found
    assert finding.do == f"chmod 700 '{home}'"


def test_what_a_part_writes_is_its_users_alone(tmp_path: Path) -> None:
    program = "from pathlib import Path; Path('made').touch(); Path('folder').mkdir()"
    environment = os.environ | {"PYTHONSAFEPATH": "1"}
    part = Part("serving", [sys.executable, "-c", program], environment, tmp_path)
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        part.start()
        assert part.process is not None
        part.process.wait(30)
    finally:
        os.chdir(before)
    assert (mode(tmp_path / "made"), mode(tmp_path / "folder")) == (0o600, 0o700)


@pytest.mark.parametrize("part", ["stream", "learner"])
def test_a_part_that_is_started_alone_makes_the_home_for_its_user_alone(
    tmp_path: Path, part: str
) -> None:
    """It has no broker, or no application, and ends; its home is made by then."""
    (tmp_path / "game.py").write_text(GAME)
    home = tmp_path / "home"
    environment = os.environ | {"BAKEHOUSE_HOME": str(home), "BAKEHOUSE_PORT": "0"}
    environment.pop("BAKEHOUSE_KAFKA_BOOTSTRAP", None)
    ran = subprocess.run(
        [sys.executable, "-m", f"bakehouse_{part}", str(tmp_path / "no-such-game.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode != 0
    assert "no-such-game.py" in ran.stdout + ran.stderr
    assert mode(home) == 0o700


def test_serving_that_is_started_alone_keeps_all_that_it_writes_for_its_user(
    tmp_path: Path,
) -> None:
    (tmp_path / "game.py").write_text(GAME)
    home = tmp_path / "home"
    environment = os.environ | {"BAKEHOUSE_HOME": str(home), "BAKEHOUSE_PORT": "0"}
    environment.pop("BAKEHOUSE_KAFKA_BOOTSTRAP", None)
    command = [sys.executable, "-m", "bakehouse_serving", str(tmp_path / "game.py")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        serving_url(home)
    finally:
        process.terminate()
        process.wait(30)
    written = [home, *home.rglob("*")]
    assert len(written) > 3
    assert [path for path in written if mode(path) & 0o077] == []
