"""One part of the stack as a child process: its log, its phase, its deaths."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bakehouse.local.watchdog import end_group, send
from bakehouse_schemas.process.logs import readable
from bakehouse_schemas.process.phase import GIVEN_UP, READY, PhaseFile
from bakehouse_schemas.process.private import UMASK

LOG_BYTES = 16 << 20  # a part's log; the one before it is kept too
LOG_LINES_SHOWN = 15
MARKER = "---"  # begins the line that begins a process's part of the log

# A part that dies sooner than this after its start died rapidly; so many in a row are enough.
RAPID_DEATH_S = 60.0
RAPID_DEATHS = 5
LONGEST_DELAY_S = 10.0
LEFTOVERS_TIMEOUT_S = 3.0  # for what a part that has stopped had started itself


def module_of(part: str) -> str:
    """What `python -m` runs of a part."""
    return f"bakehouse_{part}"


def restart_delay_s(rapid_deaths: int) -> float | None:
    """Seconds until a part is started again: 0.5, 1, 2, 4, … 10; None: give it up.

    Args:
        rapid_deaths: how often in a row it has died soon after its start, this time included;
            0 where it had run for a while.
    """
    if rapid_deaths >= RAPID_DEATHS:
        return None
    return min(LONGEST_DELAY_S, 0.5 * 2.0 ** max(0, rapid_deaths - 1))


@dataclass
class Part:
    """A child process that leads a process group of its own."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    home: Path
    ready: Callable[[], bool] | None = None  # None: the part announces its phases itself
    process: subprocess.Popen[bytes] | None = None
    phase: str = "waiting"
    details: dict[str, Any] = field(default_factory=dict)
    wanted: bool = False  # to be started again when it dies
    restart_at: float | None = None  # monotonic
    rapid_deaths: int = 0
    given_up: str | None = None  # why
    _started_at: float = 0.0

    @property
    def log(self) -> Path:
        return self.home / "logs" / f"{self.name}.log"

    @property
    def phase_file(self) -> PhaseFile:
        return PhaseFile(self.home, self.name)

    @property
    def is_ready(self) -> bool:
        return self.phase == READY

    def start(self) -> int:
        """Start the process; returns its id, which is also that of its group.

        Raises:
            OSError: the command cannot be started.
        """
        self.phase_file.announce("starting", pid=None)  # in place of an earlier process's
        self.log.parent.mkdir(parents=True, exist_ok=True)
        bound_log(self.log)
        with self.log.open("ab") as log:
            log.write(
                f"{MARKER} {self.name} started {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode()
            )
            log.flush()
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment),
                start_new_session=True,
                umask=UMASK,
            )
        self.wanted, self.restart_at = True, None
        self.phase, self.details = "starting", {}
        self._started_at = time.monotonic()
        return self.process.pid

    def refresh(self) -> bool:
        """Take over the last announced phase; returns whether it is another one."""
        before = self.phase
        if self.ready is None:
            if (announced := self.phase_file.read()) is not None:
                self.phase, self.details = str(announced["phase"]), announced
        elif not self.is_ready and self.ready():
            self.phase = READY
            self.phase_file.announce(READY, pid=self.process.pid if self.process else None)
        return self.phase != before

    def note_death(self) -> float | None:
        """Take in that the process has ended; returns the delay before the next, None: give up."""
        assert self.process is not None
        send(self.process.pid, signal.SIGKILL)  # what it leaves would be in its successor's way
        rapid = time.monotonic() - self._started_at < RAPID_DEATH_S
        self.rapid_deaths = self.rapid_deaths + 1 if rapid else 0
        delay = restart_delay_s(self.rapid_deaths)
        if delay is None:
            self.wanted = False
            self.phase = GIVEN_UP
            self.given_up = (
                f"{self.name} died {self.rapid_deaths} times within {RAPID_DEATH_S:.0f} s of its "
                f"start, the last time with {exit_words(self.process.returncode)}, and is not "
                f"started again. The end of {self.log}:\n{last_words(self.log)}"
            )
        else:
            self.restart_at = time.monotonic() + delay
            self.phase = "restarting"
        self.phase_file.announce(self.phase, pid=None)
        return delay

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the process (not to what it started: it stops that in its order)."""
        self.wanted, self.restart_at = False, None
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.terminate()

    def end(self, timeout_s: float) -> bool:
        """Wait for the end of a part that was asked to stop; kill it when it takes too long.

        Returns:
            Whether it stopped by itself.
        """
        if self.process is None:
            return True
        by_itself = True
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            by_itself = False
            send(self.process.pid, signal.SIGKILL)
            self.process.wait()
        send(self.process.pid, signal.SIGTERM)  # to what it started and left behind
        end_group(self.process.pid, LEFTOVERS_TIMEOUT_S)
        self.process, self.phase = None, "stopped"
        return by_itself

    def kill(self) -> None:
        """End the process and all that it started, as a power cut would."""
        if self.process is not None:
            send(self.process.pid, signal.SIGKILL)
            self.process.wait()


def exit_words(code: int) -> str:
    """`exit status 1`, or `signal SIGKILL` for a negative code."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def bound_log(log: Path, limit: int = LOG_BYTES) -> None:
    """Set a log that has grown past `limit` aside as `NAME.log.1`, and go on in an empty one.

    By copying and truncating: the part that has it open for appending notices nothing.
    """
    if log.is_file() and log.stat().st_size > limit:
        shutil.copyfile(log, log.with_suffix(".log.1"))
        with log.open("r+b") as file:
            file.truncate(0)


def last_words(log: Path) -> str:
    """The end of what the last process wrote to a log."""
    lines = last_lines(log).splitlines()
    starts = [at for at, line in enumerate(lines) if line.startswith(MARKER)]
    last = lines[starts[-1] + 1 :] if starts else lines
    return "\n".join(map(readable, last)) or "(it wrote nothing)"


def last_lines(log: Path, count: int = LOG_LINES_SHOWN) -> str:
    """The last lines of a log, however long it is."""
    if not log.is_file():
        return "(no log)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - (64 << 10)))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-count:])
