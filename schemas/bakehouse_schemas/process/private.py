"""Who can read what a stack keeps? Its own user alone: subjects, contexts and keys are in it."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

UMASK = 0o077  # of every part: what it writes is its user's alone
OTHERS = 0o077
# What earlier releases, which left their homes open, put into them.
_OURS = frozenset(
    {
        *("kafka", "lock", "logs", "policies", "ports.json", "run", "spool", "tables"),
        *("serving", "stream", "learner", "checkpoints", "mlflow.db", "mlflow-artifacts"),
    }
)
_DEMO = "demo-"  # begins the homes of demos, below the home itself


def make_home(home: Path) -> None:
    """Make the folder, its user's alone; an older home that is more open is closed.

    A folder of other things that is to become a home, and one of another user's, stay as they
    are: `bakehouse doctor` says so. What lies below needs no change: nobody else gets there.

    Raises:
        OSError: it cannot be made.
    """
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        home.mkdir(mode=0o700)
    except FileExistsError:
        if not is_open(home) or not _is_ours(home):
            return
    with contextlib.suppress(PermissionError):  # some mounts have no modes to change
        home.chmod(stat.S_IMODE(home.stat().st_mode) & ~OTHERS)


def _is_ours(home: Path) -> bool:
    its = home.stat()
    if its.st_uid != os.geteuid() or its.st_mode & stat.S_ISVTX:  # such as /tmp itself
        return False
    names = {path.name for path in home.iterdir()}
    demos = any(name.startswith(_DEMO) for name in names)
    return not names or demos or not names.isdisjoint(_OURS)


def is_open(home: Path) -> bool:
    """Whether other users of the machine may look into a folder; False where there is none."""
    try:
        return bool(home.stat().st_mode & OTHERS)
    except FileNotFoundError:
        return False


def write_privately() -> None:
    """What this process makes from now on is its user's alone."""
    os.umask(UMASK)
