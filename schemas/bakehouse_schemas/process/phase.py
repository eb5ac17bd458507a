"""What a part is doing right now, in a small file that the supervisor shows people.

`<home>/run/<part>.json`; written whole and renamed, so a reader never sees half of it.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY = "ready"
GIVEN_UP = "given up"  # died too often; said by the supervisor


@dataclass(frozen=True)
class PhaseFile:
    """Announces the phase of one part of one home."""

    home: Path
    part: str  # broker, serving, stream, learner

    @property
    def path(self) -> Path:
        return self.home / "run" / f"{self.part}.json"

    def announce(self, phase: str, **details: Any) -> None:
        """Say what this process is busy with ("importing TensorFlow"), or `READY`.

        Raises:
            OSError: the disk is full, and no earlier announcement left room for this one.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        record = {"part": self.part, "pid": os.getpid(), "phase": phase, "at": time.time()}
        aside = self.path.with_suffix(f".{os.getpid()}")
        said = json.dumps(record | details)
        try:
            aside.write_text(said)
            aside.replace(self.path)
        except OSError:  # a full disk still holds the last announcement: over it, in its place
            aside.unlink(missing_ok=True)
            if not self.path.exists():
                raise
            with self.path.open("r+") as last:
                last.write(said)
                last.truncate()

    def read(self) -> dict[str, Any] | None:
        """The last announcement, or None where there is none (yet)."""
        try:
            record: dict[str, Any] = json.loads(self.path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return record
