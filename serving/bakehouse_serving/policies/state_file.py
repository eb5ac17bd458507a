"""Pointer and control of an application on disk, for a restart without Kafka."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from bakehouse_schemas.errors import InvalidEvent
from bakehouse_schemas.events.events import Control, PolicyPointer
from bakehouse_schemas.events.validation import validated

log = logging.getLogger(__name__)


class StateFile:
    """`<home>/serving/<application>.json`, replaced as a whole; written by one thread at a time."""

    def __init__(self, path: Path, *, application: str) -> None:
        self._path = path
        self._application = application

    def read(self) -> tuple[Control, PolicyPointer | None] | None:
        """What was written last; None where there is nothing that can be read."""
        try:
            kept = json.loads(self._path.read_bytes())
            control = validated(Control, kept["control"])
            pointer = validated(PolicyPointer, kept["pointer"]) if kept["pointer"] else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, InvalidEvent) as error:
            log.warning(
                "%s cannot be read (%s); starting without it",
                self._path,
                error,
                extra={"application": self._application},
            )
            return None
        return control, pointer

    def write(self, control: Control, pointer: PolicyPointer | None, *, durably: bool) -> None:
        """Replace it.

        Args:
            durably: on return it survives a power cut, too.

        Raises:
            OSError: the disk refuses; what was written last stays.
        """
        kept = {
            "control": control.model_dump(),
            "pointer": pointer.model_dump() if pointer else None,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with aside.open("w") as file:
            json.dump(kept, file)
            if durably:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(self._path)
