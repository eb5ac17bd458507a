"""Handles for files and connections: they do not run out early, and where they do, what is left."""

from __future__ import annotations

import contextlib
import http.client
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from bakehouse_schemas.process.settings import Settings
from tests.faults.test_serving import BASE, Serving
from tests.waiting import wait_until

NOFILE = resource.RLIMIT_NOFILE


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    """Not started yet; without Kafka."""
    found = Serving(Settings(home=tmp_path / "home"), armed=False)
    try:
        yield found
    finally:
        found.stop()


@contextlib.contextmanager
def soft_limit(handles: int) -> Iterator[int]:
    """For processes that are started meanwhile; yields the hard limit."""
    soft, hard = resource.getrlimit(NOFILE)
    resource.setrlimit(NOFILE, (handles, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(NOFILE, (soft, hard))


def test_the_soft_limit_is_raised_to_the_hard_one_and_the_log_says_so(serving: Serving) -> None:
    with soft_limit(256) as hard:
        serving.start()
    assert serving.process is not None
    assert resource.prlimit(serving.process.pid, NOFILE) == (hard, hard)
    said = (serving.home / "log").read_text()
    assert re.search(r"files and connections at a time: \S.*\(the soft limit was 256\)", said)


def test_a_young_server_without_a_handle_left_goes_on_telling_and_logs_again_once_it_has_some(
    serving: Serving,
) -> None:
    serving.start()
    assert serving.process is not None
    pid = serving.process.pid
    viewer = http.client.HTTPConnection(serving.address, timeout=30)
    player = serving.client()
    with contextlib.closing(viewer):
        viewer.request("GET", f"{BASE}/live")
        frames = viewer.getresponse()
        assert player.policy()["policy_version"] == 0  # its connection is open
        handles = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        before = resource.prlimit(pid, NOFILE)
        resource.prlimit(pid, NOFILE, (handles, before[1]))
        assert not player.decide()["logged"]  # there is no handle for a segment of the spool
        told = 0
        while told < 3:  # one of these at least has the decision in its figures
            told += frames.readline().startswith(b"event: tick")
        resource.prlimit(pid, NOFILE, before)
    assert player.call("GET", "/readyz")["ready"]
    wait_until(lambda: bool(player.decide()["logged"]), "decisions are logged again")
    assert "Traceback" not in (serving.home / "log").read_text()
