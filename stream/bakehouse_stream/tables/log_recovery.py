"""After a power cut: the end of a table's log that did not reach the disk whole is cut off.

What is cut off is set aside in `<table>/_torn/`, not deleted. Stream then reads the topics again
from offsets that were applied well before the cut, and the fold absorbs what is there already.
Tables in an object store have no torn files, and are left alone.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from urllib.parse import unquote

from bakehouse_schemas.process.boot import SETTLED_S
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.replay.tables import TABLES
from bakehouse_stream.tables.tables import table_uri

PARQUET = b"PAR1"  # begins and ends every whole file
_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint.*\.parquet")

log = logging.getLogger("bakehouse_stream.tables.log_recovery")


def recover_tables(settings: Settings) -> dict[str, int]:
    """Cut all tables' logs where they are torn; table → first version that was cut off."""
    if "://" in settings.tables:
        return {}
    found = {name: recover_log(Path(table_uri(settings, name))) for name in TABLES}
    return {name: version for name, version in found.items() if version is not None}


def recover_log(table: Path) -> int | None:
    """Cut one table's log from its first torn commit on; returns its version, None if none is."""
    commits = _numbered(table / "_delta_log", _COMMIT)
    if not commits:
        return None
    newest = max(path.stat().st_mtime for path in commits.values())
    young = {
        version: path
        for version, path in commits.items()
        if path.stat().st_mtime >= newest - 2 * SETTLED_S
    }
    torn = next(
        (version for version in sorted(young) if not is_intact(table, young[version])), None
    )
    if torn is None:
        return None
    aside = table / "_torn" / f"{torn:020d}"
    aside.mkdir(parents=True, exist_ok=True)
    behind = {v: p for v, p in commits.items() if v >= torn}
    behind |= {-v: p for v, p in _numbered(table / "_delta_log", _CHECKPOINT).items() if v >= torn}
    # from the end: a cut that is itself cut short leaves a log without a gap
    for path in sorted(behind.values(), reverse=True):
        path.replace(aside / path.name)
    last = table / "_delta_log" / "_last_checkpoint"
    if last.is_file() and _last_checkpoint(last) >= torn:
        last.replace(aside / last.name)
    log.warning(
        "%s: version %d did not reach the disk whole; it and what follows is in %s, and is read "
        "from Kafka again",
        table,
        torn,
        aside,
    )
    return torn


def is_intact(table: Path, commit: Path) -> bool:
    """Whether a commit, and every data file that it adds, is on the disk as it was written."""
    try:
        actions = [json.loads(line) for line in commit.read_bytes().splitlines()]
    except ValueError:
        return False
    added = [action["add"] for action in actions if "add" in action]
    return bool(actions) and all(
        _is_data(table / unquote(add["path"]), add["size"]) for add in added
    )


def _is_data(file: Path, size: int) -> bool:
    try:
        if file.stat().st_size != size:
            return False
        with file.open("rb") as content:
            content.seek(-len(PARQUET), 2)
            return content.read() == PARQUET
    except FileNotFoundError:
        return False


def _numbered(folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if (match := pattern.fullmatch(path.name)) is not None:
            found[int(match[1])] = path
    return found


def _last_checkpoint(file: Path) -> float:
    try:
        return int(json.loads(file.read_bytes())["version"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # torn itself
