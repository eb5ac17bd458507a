"""`docs/first-ten-minutes.md` as a new user follows it: every command, in order, in a new folder.

Against real parts: two demos of two minutes and a stack of one's own, which takes some minutes.
What differs from a person's machine is said here: `uv run` is this environment, nothing is
installed, the port is a free one, and the second terminal waits until the first says that all is
ready.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bakehouse_schemas.process.phase import READY, PhaseFile
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "first-ten-minutes.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
PATIENCE_S = 900.0
UV = f"""#!/bin/sh
# `uv run WORD …` in this environment
shift
command=$1
shift
case $command in
  bakehouse) exec {sys.executable} -m bakehouse.cli "$@" ;;
  *) exec {sys.executable} -m "$command" "$@" ;;
esac
"""


class Terminal:
    """A folder, and what was said in it, block by block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: dict[str, str] = {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        tools = folder.parent / "bin"
        tools.mkdir()
        for name, script in (("uv", UV), ("pip", "#!/bin/sh\n")):
            (tools / name).write_text(script)
            (tools / name).chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "BAKEHOUSE_PORT": self.port,
            "COLUMNS": "100",
        }
        self.stack: subprocess.Popen[bytes] | None = None

    def run(self, block: str) -> None:
        block = block.replace("8080", self.port)
        if block.rstrip().endswith("&"):
            self.stack = subprocess.Popen(
                ["bash", "-c", f"exec {block.rstrip().removesuffix('&')}"],
                cwd=self.folder,
                env=self.environment,
            )
            for part in ("serving", "stream", "learner"):
                phase = PhaseFile(self.folder / ".bakehouse", part)
                wait_until(
                    lambda phase=phase: (phase.read() or {}).get("phase") == READY,
                    f"{part} is ready",
                    patience_s=PATIENCE_S,
                )
            return
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
        )
        assert ran.returncode == 0, ran.stdout[-4000:]
        self.said[block] = ran.stdout

    def of(self, word: str) -> str:
        """What was said to the block with this word in it."""
        return next(said for block, said in self.said.items() if word in block)

    def stop(self) -> None:
        if self.stack is not None:
            self.stack.send_signal(signal.SIGINT)
            self.stack.wait(120)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    folder = tmp_path_factory.mktemp("new") / "user"
    folder.mkdir()
    (folder / "applications").symlink_to(ROOT / "applications")  # what a checkout has
    one = Terminal(folder)
    try:
        for block in BLOCKS:
            one.run(block)
        yield one
    finally:
        one.stop()


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_every_command_of_the_page_does_what_the_page_says(terminal: Terminal) -> None:
    demo = terminal.of("demo --minutes")
    assert "What happened" in demo and "Bakehouse learns level-difficulty" in demo
    assert "Wrote my_game.py and test_my_game.py" in terminal.of("init my_game")
    checked = terminal.of("check my_game.py")
    assert "20% of the subjects stay on the baseline" in checked and "4 passed" in checked
    assert "Bakehouse learns my-game" in terminal.of("demo --application my_game.py")
    assert "my-game" in terminal.of("status")
    explained = terminal.of("explain $ID")
    assert '"action":' in explained and '{"accepted":1,"rejected":[],"notes":[]}' in explained
    for words in ("Player player-4712", "“quest_done”", "Decided again from its log", "reward 1"):
        assert words in explained, explained
    last = terminal.of("kill")
    for words in ("kill my-game", "killed", "revive my-game", "doubly robust", "version"):
        assert words in last, last


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_the_page_of_ones_own_was_learned(terminal: Terminal) -> None:
    policies = [
        json.loads(manifest.read_text())["version"]
        for manifest in (terminal.folder / ".bakehouse" / "policies").glob(
            "my-game/*/manifest.json"
        )
    ]
    assert policies


def test_the_page_leaves_no_output_to_be_filled_in() -> None:
    assert len(BLOCKS) >= 7
    assert not re.search(r"^[A-Z]+_OUTPUT$", PAGE, re.MULTILINE)
