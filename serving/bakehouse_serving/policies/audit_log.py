"""Who changed what, when and why: one JSON line for each control, kept for good.

Controls on Kafka are compacted, so of several the last alone stays there; this file keeps them
all. A control that another process took is appended when it arrives from Kafka.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import orjson

from bakehouse_schemas.events.events import Control

_MOST_READ = 4 << 20  # bytes, from the end of the file


class AuditLog:
    """The audit log of one application, shared by the processes of a home.

    Args:
        path: the file; made with the first entry.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, action: str, control: Control, before: Control) -> None:
        """Append an action and what it changed; on return it is on the disk.

        Raises:
            OSError: it could not be written.
        """
        now, was = control.model_dump(), before.model_dump()
        changed = {
            name: [was[name], now[name]]
            for name in now
            if name not in _NO_CHANGE and now[name] != was[name]
        }
        entry = {
            "at_ms": control.at_ms,
            "action": action,
            "by": control.by,
            "why": control.why,
            "changed": changed,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        with self._path.open("ab") as file:  # one write of a line: processes do not mix theirs
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def newest(self, most: int) -> list[dict[str, Any]]:
        """Up to `most` entries, newest first; one that several processes appended is there once."""
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, self._path.stat().st_size - _MOST_READ))
                lines = file.read().splitlines()
        except FileNotFoundError:
            return []
        entries: dict[int, dict[str, Any]] = {}
        for line in lines:
            try:
                entry = orjson.loads(line)
                at_ms = entry["at_ms"]
            except (ValueError, KeyError, TypeError):
                continue  # torn by a crash, or by where reading began
            if entry.get("action") != HEARD or at_ms not in entries:
                entries[at_ms] = entry
        return [entries[at_ms] for at_ms in sorted(entries, reverse=True)[:most]]


HEARD = "heard"  # from another process, which has recorded the action itself
_NO_CHANGE = ("application", "by", "why", "at_ms")
