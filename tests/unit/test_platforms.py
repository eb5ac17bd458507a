"""What a data scientist does without a stack is done on Windows too, which lacks what Unix has.

There is no Windows here: a process stands for it in which what Windows has not cannot be imported
or looked up.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT = """
import os, signal, sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "grp", "pwd", "resource", "termios", "uvloop"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refused())
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "pthread_sigmask"):
    delattr(signal, name)
for name in ("geteuid", "getuid", "fork", "setsid", "O_DIRECTORY"):
    delattr(os, name)
from bakehouse.cli import main
sys.argv = ["bakehouse", *sys.argv[1:]]
main()
"""


def windows(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_page_is_written_and_checked(tmp_path: Path) -> None:
    for words in (["init", "my-game"], ["check", "my_game.py"], ["--help"]):
        done = windows(tmp_path, *words)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["up", "demo"])
def test_the_stack_says_where_it_runs(tmp_path: Path, command: str) -> None:
    windows(tmp_path, "init", "my-game")
    done = windows(tmp_path, command, *(["my_game.py"] if command == "up" else []))
    assert done.returncode != 0
    assert "WSL 2" in done.stderr and "Traceback" not in done.stderr


def test_what_is_written_is_synced_where_there_is_no_fdatasync() -> None:
    words = (
        "import os; del os.fdatasync; "
        "from bakehouse_schemas.process.durable import sync_data; assert sync_data is os.fsync; "
        "import bakehouse_serving.spool.spool, bakehouse_learner.training.plan"
    )
    subprocess.run([sys.executable, "-c", words], check=True)
