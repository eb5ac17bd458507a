"""Ports of this machine: which are free, which are kept, and whether Kafka answers on one."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

LOOPBACK = "127.0.0.1"
API_VERSIONS = 18
# length, key, version 0, correlation, no client id: the one request that every Kafka answers
API_VERSIONS_REQUEST = struct.pack(">ihhih", 10, API_VERSIONS, 0, 1, -1)


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on `port` now (0 is always free)."""
    try:
        with socket.create_server((host, port)):
            return True
    except OSError:
        return False


def keep_ports(file: Path, names: Sequence[str]) -> dict[str, int]:
    """A free port for each name: that of last time where it is still free, else another.

    Written to `file`, so that whoever noted an address finds the same one after a restart.
    """
    try:
        last = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        last = {}
    ports: dict[str, int] = {}
    with ExitStack() as held:  # held together, else the same one could be given twice
        for name in names:
            listener = _listener(last.get(name, 0))
            ports[name] = held.enter_context(listener).getsockname()[1]
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(".aside")
    aside.write_text(json.dumps(ports))
    aside.replace(file)
    return ports


def _listener(preferred: int) -> socket.socket:
    try:
        return socket.create_server((LOOPBACK, preferred))
    except OSError:
        return socket.create_server((LOOPBACK, 0))


def any_answers(bootstrap: str, *, timeout_s: float = 5.0) -> bool:
    """Whether one of `host:port,host:port` is a Kafka that answers without encryption."""
    addresses = (address.rpartition(":") for address in bootstrap.split(","))
    return any(
        number.isdigit() and answers(int(number), host=host, timeout_s=timeout_s)
        for host, _, number in addresses
    )


def answers(port: int, *, host: str = LOOPBACK, timeout_s: float = 1.0) -> bool:
    """Whether a Kafka broker answers a request on `port`; an open port is not enough."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.sendall(API_VERSIONS_REQUEST)
            return len(connection.recv(10)) == 10  # length, correlation, error code
    except OSError:
        return False
