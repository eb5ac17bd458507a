"""Starts what is measured as processes of its own, and stops it again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bakehouse.local.broker import Broker
from bakehouse.local.jars import ensure_jars
from bakehouse.local.java import find_java
from bakehouse.local.ports import keep_ports
from bakehouse.local.topics import ensure_topics
from bakehouse_schemas.process.settings import Settings
from tests.bench.measure import wait_until

STOP_S = 30.0


@contextmanager
def process(
    command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in its own group, its output in `log`; stopped with SIGTERM, then killed."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        started = subprocess.Popen(
            list(command),
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def alive(started: subprocess.Popen[bytes], log: Path) -> None:
    """Raise RuntimeError, with the end of its log, if the process is gone."""
    if started.poll() is not None:
        raise RuntimeError(f"it ended with {started.returncode}: {log.read_text()[-2000:]}")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@contextmanager
def server(
    kind: str, scratch: Path, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[int, int]]:
    """One of `tests.bench.servers`; yields its process id and port."""
    home, port = scratch / kind, free_port()
    home.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.bench.servers", kind, str(home), str(port)]
    with process(command, home / "log", environment=environment) as started:

        def up() -> bool:
            alive(started, home / "log")
            return listens(port)

        wait_until(up, 30, f"the {kind} server")
        yield started.pid, port


@contextmanager
def broker(scratch: Path) -> Iterator[tuple[Settings, int]]:
    """A real broker with our topics; yields settings that name it, and its process id."""
    settings = Settings(home=scratch / "home")
    java = find_java()
    jars = ensure_jars(lambda words: None, java=java)
    ports = keep_ports(scratch / "ports.json", ["broker", "controller"])
    made = Broker(
        scratch / "kafka", java, jars.kafka, ports["broker"], ports["controller"], settings
    )
    made.prepare()
    log = scratch / "broker.log"
    with process(made.command(), log) as started:

        def up() -> bool:
            alive(started, log)
            return made.answers()

        wait_until(up, 60, "the broker")
        settings = settings.model_copy(update={"kafka_bootstrap": made.address})
        ensure_topics(settings)
        yield settings, started.pid
