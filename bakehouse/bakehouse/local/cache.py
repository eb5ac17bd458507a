"""The user's cache folder, shared by all homes, and a lock for filling it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

with suppress(ModuleNotFoundError):  # Windows has none, and no stack runs there
    import fcntl


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """`$BAKEHOUSE_CACHE`, else `$XDG_CACHE_HOME/bakehouse`, else `~/.cache/bakehouse`."""
    if named := environment.get("BAKEHOUSE_CACHE"):
        return Path(named).expanduser().resolve()
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache").resolve() / "bakehouse"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`; another process that wants it waits here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
