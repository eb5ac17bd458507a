"""A home folder: who holds it, and where the stack that runs in it can be found."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from bakehouse_schemas.errors import HomeInUse, StackError
from bakehouse_schemas.process.private import make_home

with suppress(ModuleNotFoundError):  # Windows has none, and no stack runs there
    import fcntl

# What a stack leaves in its home; `reset` removes these and nothing that a person put there.
CONTENTS = (
    "kafka",
    "tables",
    "checkpoints",
    "policies",
    "spool",
    "learner",
    "serving",
    "stream",
    "mlflow.db",
    "mlflow.db.lock",
    "mlflow-artifacts",
    "mlartifacts",
    "mlruns",
    "logs",
    "run",
    "run.json",
    "ports.json",
)
DEMO = "demo-"  # what the homes of demos begin with, below the home itself
STOPPING_TIMEOUT_S = 60.0  # how long the parts of a killed stack may take to stop


@dataclass(frozen=True)
class Run:
    """`run.json`: a running stack, as other commands find it."""

    pid: int  # of the supervisor
    url: str  # serving's address
    kafka_bootstrap: str
    applications: list[str]  # as named on the command line
    names: list[str]  # the applications' own
    started_at_ms: int
    parts: dict[str, int] = field(default_factory=dict)  # part -> process id

    def write(self, home: Path) -> None:
        """Whole or not at all: a reader never sees half of it."""
        aside = home / f"run.json.{os.getpid()}"
        aside.write_text(json.dumps(asdict(self), indent=2))
        aside.replace(home / "run.json")


def read_run(home: Path) -> Run:
    """The stack that runs in `home` now.

    Raises:
        StackError: none does, or it has not come so far as to have an address.
    """
    if not is_held(home):
        raise StackError(
            f"no stack is running in {home}: start one with `bakehouse up REF`, or name its home "
            f"with --home or its address with --url{_demo_words(home)}"
        )
    if (run := _last_run(home)) is None:
        raise StackError(f"the stack in {home} has only just begun to start: try again")
    return run


def _demo_words(home: Path) -> str:
    """The demo that runs below a home, for whoever asked the home itself."""
    running = sorted(path for path in home.glob(f"{DEMO}*") if is_held(path))
    return f". A demo runs: say --home {running[-1]}" if running else ""


def is_held(home: Path) -> bool:
    """Whether a stack (or what is left of a killed one) holds the home."""
    try:
        with (home / "lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def hold(home: Path, *, stopping_timeout_s: float = STOPPING_TIMEOUT_S) -> Iterator[int]:
    """Hold the home for one stack; yields the file descriptor that is the lock.

    The lock lasts as long as any process has the descriptor. The supervisor's watchdog gets
    it too, so the home of a killed stack stays held until its parts are gone; a new stack
    waits for that, up to `stopping_timeout_s`.

    Raises:
        HomeInUse: naming the process and address of the stack that holds it.
    """
    make_home(home)
    with (home / "lock").open("a+") as file:
        _acquire(home, file.fileno(), stopping_timeout_s)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        (home / "run.json").unlink(missing_ok=True)  # a killed stack's
        try:
            yield file.fileno()
        finally:
            (home / "run.json").unlink(missing_ok=True)


def _acquire(home: Path, lock: int, stopping_timeout_s: float) -> None:
    deadline = time.monotonic() + stopping_timeout_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(home)
            if (holder is not None and _is_alive(holder)) or time.monotonic() > deadline:
                raise HomeInUse(_in_use(home, holder)) from None
            time.sleep(0.05)  # flock has no timeout; what is awaited is the watchdog's end
        else:
            return


def _in_use(home: Path, holder: int | None) -> str:
    run = _last_run(home)
    where = f" and answers at {run.url}" if run is not None else " and is still starting"
    return (
        f"{home} is in use: a stack with process id {holder or 'unknown'} holds it{where}. "
        "It was left alone. Use another home (--home DIR), or stop it first (Ctrl-C where it "
        f"runs, or `kill {holder or 'PID'}`)"
    )


def _holder(home: Path) -> int | None:
    try:
        return int((home / "lock").read_text())
    except ValueError:
        return None


def _last_run(home: Path) -> Run | None:
    try:
        told = json.loads((home / "run.json").read_text())
        known = {one.name for one in fields(Run)}
        # a later release may say more
        return Run(**{name: value for name, value in told.items() if name in known})
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
