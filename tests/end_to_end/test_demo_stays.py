"""`bakehouse demo` on a terminal: its page outlasts the players, until Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_until

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]
PATIENCE_S = 280.0
STAYS = re.compile(r"the dashboard stays at (http://\S+?)/ until Ctrl-C")


class OnATerminal:
    """A demo whose output is a terminal's."""

    def __init__(self, home: Path, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bakehouse", "demo", "--home", str(home), "--port", "0", *words],
            cwd=ROOT,
            env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "200"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._said = b""

    def said(self) -> str:
        """All that it has said so far, without colours."""
        try:
            while read := os.read(self._ours, 1 << 16):
                self._said += read
        except OSError:  # nothing more now (EAGAIN), or ever (EIO)
            pass
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._said.decode(errors="replace"))

    def has_said(self, pattern: str) -> bool:
        return re.search(pattern, self.said()) is not None

    def end(self) -> None:
        """Make sure that nothing of it goes on."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(120)
        os.close(self._ours)

    def over(self) -> bool:
        self.said()  # a full terminal would hold it up
        return self.process.poll() is not None


@pytest.fixture
def demo(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[OnATerminal]:
    one = OnATerminal(tmp_path / "home", *request.param)
    try:
        yield one
    finally:
        one.end()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("demo", [["--minutes", "0.2"]], indirect=True)
def test_the_page_stays_until_ctrl_c_and_what_was_promised_is_told_then(demo: OnATerminal) -> None:
    wait_until(
        lambda: STAYS.search(demo.said()) is not None or demo.over(),
        "the players have finished",
        patience_s=PATIENCE_S,
    )
    found = STAYS.search(demo.said())
    assert found is not None, demo.said()[-3000:]
    assert demo.said().index("What happened") < found.start()
    for path in ("/", "/livez", "/v1/status"):
        with urllib.request.urlopen(found[1] + path, timeout=30) as answer:
            assert answer.status == 200
    demo.process.send_signal(signal.SIGINT)
    wait_until(demo.over, "the demo has ended", patience_s=PATIENCE_S)
    assert demo.process.returncode == 0, demo.said()[-3000:]
    assert demo.said().count("What happened") == 1
    assert "Everything that was acknowledged is in the tables: 0 lost" in demo.said()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("demo", [["--minutes", "60"]], indirect=True)
def test_ctrl_c_while_they_play_ends_it_at_once(demo: OnATerminal) -> None:
    wait_until(
        lambda: demo.has_said(r"[1-9]\d* decisions/s") or demo.over(),
        "decisions are answered",
        patience_s=PATIENCE_S,
    )
    demo.process.send_signal(signal.SIGINT)
    wait_until(demo.over, "the demo has ended", patience_s=PATIENCE_S)
    assert demo.process.returncode == 0, demo.said()[-3000:]
    assert demo.has_said("What happened") and STAYS.search(demo.said()) is None
