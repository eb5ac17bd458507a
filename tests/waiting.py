"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

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
