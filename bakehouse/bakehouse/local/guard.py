"""The supervisor's end of the watchdog: tells it what runs, and lets it go at the end."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

WATCHDOG = Path(__file__).with_name("watchdog.py")


class Guard:
    """A watchdog process that outlives a killed supervisor and stops what is left.

    Args:
        lock: file descriptor of the home's lock, which the watchdog holds too.
    """

    def __init__(self, lock: int) -> None:
        # as a file and without site-packages: 10 MB and 20 ms instead of what we import
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(WATCHDOG)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[lock],
        )

    def started(self, pid: int, order: int) -> None:
        """A process group leader was started; those with a low order are stopped first."""
        self._write(f"+ {order} {pid}\n")

    def gone(self, pid: int) -> None:
        """That group has ended, and its id may soon be somebody else's."""
        self._write(f"- 0 {pid}\n")

    def close(self) -> None:
        """Tell it that this is the end: it stops what it still has, and goes."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # somebody killed it; the stack itself goes on
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
