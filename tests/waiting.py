"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bakehouse_schemas.process.phase import READY, PhaseFile

PATIENCE_S = 120.0
BETWEEN_S = 0.05


def wait_until(
    condition: Callable[[], bool],
    what: str,
    *,
    patience_s: float = PATIENCE_S,
    every_s: float = BETWEEN_S,
) -> None:
    """Return once `condition` holds; fail, saying `what` was waited for, after `patience_s`."""
    give_up = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > give_up:
            raise AssertionError(f"waited {patience_s} s in vain: {what}")
        time.sleep(every_s)


def serving_url(home: Path) -> str:
    """The address of the serving of this home, once it is ready."""
    phase = PhaseFile(home, "serving")
    wait_until(lambda: (phase.read() or {}).get("phase") == READY, "serving is ready")
    announced = phase.read()
    assert announced is not None
    return str(announced["url"])
