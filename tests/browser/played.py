"""A whole real stack with simulated players at it, for whoever wants to look at the page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bakehouse.local.supervisor import Stack
from bakehouse.players.player_thread import PlayerThread
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import Settings


@contextmanager
def played(ref: str, home: Path, *, rate: float) -> Iterator[str]:
    """The address of serving, while players of the page's own world play at `rate` a second."""
    with Stack([ref], Settings(home=home, port=0)) as stack:
        players = PlayerThread(load_application(ref), stack.url, rate=rate, settings=stack.settings)
        players.start()
        try:
            yield stack.url
        finally:
            players.stop()
