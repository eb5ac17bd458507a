"""MLflow's SQLite database is made whole before anybody can open it.

MLflow makes its tables when a store is opened, in some seventy steps, and two processes that do so
at once leave it half made for good: nothing can be written or read there any more. So it is made
aside, under a lock, and put in place once it is whole. One that is half made (by an interrupted
or an earlier release's MLflow) is brought up to date in a copy, or else begun anew; what was there
is kept beside it under another name.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal

from bakehouse_schemas.errors import BakehouseError

with suppress(ModuleNotFoundError):  # Windows has none, and no stack runs there
    import fcntl

log = logging.getLogger(__name__)

State = Literal["missing", "whole", "half made", "not ours"]
NICENESS = 10
MAKING_S = 300.0  # at most; 4 s on an idle machine, most of it MLflow's import
STILL_S = 30.0  # what nobody has written to for so long, nobody is making
LOOK_EVERY_S = 0.2
BUSY_S = 20.0  # for whoever holds the database's own lock
_SQLITE = "sqlite:///"


class MlflowDatabaseError(BakehouseError):
    """MLflow's database could not be made; what was there is still there."""


def ensure_database(uri: str) -> None:
    """Return once the store's database is whole; a store that is no SQLite file is left alone.

    Raises:
        MlflowDatabaseError: it cannot be read or made.
        OSError: the same, of the disk.
    """
    path = uri.removeprefix(_SQLITE).partition("?")[0]
    if not uri.startswith(_SQLITE) or path in ("", ":memory:"):
        return
    file = Path(path).absolute()
    if _state(file) in ("whole", "not ours"):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f"{file.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        while (state := _settled(file)) not in ("whole", "not ours"):
            _make(file, of=None if state == "missing" else file)


def _settled(file: Path) -> State:
    """The state, once nobody else (such as a person's `mlflow ui`) is making the database."""
    seen, since_s = 0.0, time.monotonic()
    while (state := _state(file)) == "half made":
        if (written := _last_written_s(file)) != seen:
            seen, since_s = written, time.monotonic()
        if max(time.monotonic() - since_s, time.time() - written) > STILL_S:
            break
        time.sleep(LOOK_EVERY_S)  # another program's work: there is nothing to be told by
    return state


def _last_written_s(file: Path) -> float:
    written = []
    for one in (file, _journal(file)):
        with contextlib.suppress(FileNotFoundError):
            written.append(one.stat().st_mtime)
    return max(written, default=0.0)


def _journal(file: Path) -> Path:
    return file.with_name(f"{file.name}-journal")


def _make(file: Path, *, of: Path | None) -> None:
    """Put a whole database in place, unless another process has put one there meanwhile.

    Args:
        of: the half-made one, whose rows are kept where that is possible.
    """
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".mlflow-") as folder:
        made = Path(folder) / file.name
        kept = of is not None and _copied(of, made)
        if not kept:
            made.unlink(missing_ok=True)
            _upgrade(made)
            if (state := _state(made)) != "whole":
                raise MlflowDatabaseError(f"`mlflow db upgrade` made {file.name} {state}")
        if of is not None:
            aside = file.with_name(f"{file.name}.half-made-{time.strftime('%Y%m%dT%H%M%S')}")
            of.rename(aside)
            with contextlib.suppress(FileNotFoundError):
                _journal(of).rename(_journal(aside))
            log.warning(
                "MLflow's database %s was half made: it is kept as %s, and %s",
                file,
                aside.name,
                "its runs go on in a copy that is whole" if kept else "another is begun",
            )
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(made)  # unlike a rename it replaces nobody's


def _copied(half_made: Path, made: Path) -> bool:
    """Whether a copy could be made whole."""
    with closing(_open(half_made)) as source, closing(sqlite3.connect(made)) as copy:
        source.backup(copy)
    try:
        _upgrade(made)
    except MlflowDatabaseError as error:
        log.info("MLflow's database cannot be mended: %s", error)
        return False
    return _state(made) == "whole"


def _upgrade(file: Path) -> None:
    """MLflow's own command, in a process that ends, so that nothing keeps the file open."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "db", "upgrade", f"{_SQLITE}{file}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with contextlib.suppress(OSError):  # it may have ended
        os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
    try:
        _, said = process.communicate(timeout=MAKING_S)
    except subprocess.TimeoutExpired:
        said = f"not done within {MAKING_S:.0f} s"
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        last = said.strip().splitlines()[-1:] or ["it said nothing"]
        raise MlflowDatabaseError(f"`mlflow db upgrade` did not make {file.name}: {last[0]:.300}")


def _state(file: Path) -> State:
    """What the file is now.

    Raises:
        MlflowDatabaseError: it is no database, or a newer MLflow's.
    """
    if not file.exists():
        return "missing"
    try:
        with closing(_open(file)) as database:
            names = "select name from sqlite_master where type = 'table'"
            tables = {name for (name,) in database.execute(names)}
            found = set()
            if "alembic_version" in tables:
                query = "select version_num from alembic_version"
                found = {version for (version,) in database.execute(query)}
    except sqlite3.Error as error:
        raise MlflowDatabaseError(f"{file} cannot be read as MLflow's database: {error}") from error
    if tables and not tables & {"alembic_version", "experiments"}:
        return "not ours"  # MLflow may add its own to another program's
    known, newest = revisions()
    if not found <= known:
        raise MlflowDatabaseError(
            f"{file} is of another release of MLflow (revision {', '.join(sorted(found))}): "
            "install that one, or name another store with BAKEHOUSE_MLFLOW_URI. It was left alone"
        )
    being_changed = any(table.startswith("_alembic_tmp_") for table in tables)
    return "whole" if found == {newest} and not being_changed else "half made"


def _open(file: Path) -> sqlite3.Connection:
    """Without making it where it is not."""
    return sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=BUSY_S)


def revisions() -> tuple[set[str], str]:
    """The states that MLflow knows of its database, and the newest.

    Read from its files: importing MLflow takes seconds, which a home that has its database spares.

    Raises:
        MlflowDatabaseError: they are not where they were.
    """
    spec = importlib.util.find_spec("mlflow")
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    known: set[str] = set()
    before: set[str] = set()
    for place in places:
        for step in Path(place).glob("store/db_migrations/versions/*.py"):
            for name, value in re.findall(
                r"^(down_revision|revision)\b[^=\n]*=(.*)$", step.read_text(), re.MULTILINE
            ):
                (known if name == "revision" else before).update(re.findall(r"[\"'](\w+)", value))
    if len(newest := known - before) != 1:
        raise MlflowDatabaseError(
            f"expected one newest revision of MLflow's database, found {sorted(newest)}"
        )
    return known, newest.pop()
