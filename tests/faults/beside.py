"""Processes beside the stack's own: a broker behind a proxy, and further serving processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from bakehouse.local.broker import Broker
from bakehouse.local.ports import answers
from bakehouse_schemas.process.failpoints import VARIABLE
from bakehouse_schemas.process.phase import READY, PhaseFile
from bakehouse_schemas.process.settings import Settings
from tests import waiting
from tests.faults.game import REF

# Seldom enough that whoever looks does not slow down what is measured.
wait_until = partial(waiting.wait_until, every_s=0.25)


def wait(until: float) -> None:
    """Let players play until a moment: what is tested is a length of time."""
    threading.Event().wait(max(0.0, until - time.monotonic()))


class Broken(AssertionError):
    """A promise was not kept."""


def hold(condition: bool, words: str) -> None:
    """Raise `Broken` unless the promise is kept."""
    if not condition:
        raise Broken(words)


@dataclass(frozen=True)
class AdvertisedBroker(Broker):
    """A broker that tells its clients another port than its own: that of a proxy."""

    advertised_port: int = 0

    def _properties(self) -> str:
        own = f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}"
        other = f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.advertised_port}"
        return super()._properties().replace(own, other)


class BrokerProcess:
    """The broker, killed and started at will."""

    def __init__(self, made: Broker, log: Path) -> None:
        self._made = made
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._made.command(), stdout=log, stderr=log)
        wait_until(lambda: answers(self._made.port), "the broker answers")

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Server:
    """A serving process beside the stack's own, with a home of its own or in the same one.

    Args:
        failpoints: its own folder, so that its deaths are nobody else's.
    """

    def __init__(self, settings: Settings, log: Path, *, failpoints: Path) -> None:
        self.settings = settings.model_copy(update={"port": 0})
        self._log = log
        self.failpoints = failpoints
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bakehouse_serving", REF],
                stdout=log,
                stderr=log,
                env=os.environ | self.settings.as_environment() | {VARIABLE: str(self.failpoints)},
            )
        pid = self.process.pid
        phase = PhaseFile(self.settings.home, "serving")

        def ready() -> bool:
            assert self.process is not None
            hold(self.process.poll() is None, f"serving ended: {self._log.read_text()[-2000:]}")
            said = phase.read() or {}
            return said.get("phase") == READY and said.get("pid") == pid

        wait_until(ready, "a second serving process answers")
        self.url = str((phase.read() or {})["url"])

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    def kill(self) -> None:
        """`kill -9`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def status(self) -> dict[str, Any]:
        """What it says of itself."""
        found: dict[str, Any] = httpx.get(f"{self.url}/v1/status", timeout=30).json()["serving"]
        return found
