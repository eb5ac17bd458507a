"""The supervisor, with tiny parts in place of the real ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bakehouse.local.events import StackEvent
from bakehouse.local.home import is_held, read_run
from bakehouse.local.part import RAPID_DEATHS, bound_log, last_lines, restart_delay_s
from bakehouse.local.supervisor import Stack
from bakehouse.local.watchdog import group_is_alive, watch
from bakehouse_schemas.errors import HomeInUse, StackError
from bakehouse_schemas.process.settings import Settings

ANNOUNCE = """
import json, os, pathlib, signal, subprocess, sys, time
home = pathlib.Path(os.environ["BAKEHOUSE_HOME"])
def announce(phase, **details):
    (home / "run").mkdir(exist_ok=True)
    aside = home / "run" / f"{sys.argv[1]}.aside"
    record = {"part": sys.argv[1], "pid": os.getpid(), "phase": phase} | details
    aside.write_text(json.dumps(record))
    aside.replace(home / "run" / f"{sys.argv[1]}.json")
"""
STEADY = ANNOUNCE + 'announce("ready")\nsignal.pause()'
ORDERLY = ANNOUNCE + (
    "def stop(*_):\n"
    "    with (home / 'stopped').open('a') as f: f.write(sys.argv[1] + ' ')\n"
    "    sys.exit(0)\n"
    "signal.signal(signal.SIGTERM, stop)\n"
    'announce("ready")\n'
    "while True: signal.pause()"
)
WITH_CHILD = ANNOUNCE + (
    "wait = 'import signal; signal.pause()'\n"
    "child = subprocess.Popen([sys.executable, '-I', '-S', '-c', wait])\n"
    'announce("ready", child=child.pid)\nsignal.pause()'
)
DYING = "import sys; print('the oven is cold'); sys.exit(3)"
PATIENCE_S = 30.0


def command(code: str, part: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code, part]


def stack(home: Path, *, events: list[StackEvent] | None = None, **code: str) -> Stack:
    return Stack(
        ["game.py"],
        Settings(home=home, port=0),
        on_event=events.append if events is not None else None,
        commands={part: command(its, part) for part, its in code.items()},
    )


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.01)


def announced(home: Path, part: str) -> dict[str, object]:
    record: dict[str, object] = json.loads((home / "run" / f"{part}.json").read_text())
    return record


def test_parts_are_started_found_through_the_home_and_gone_at_the_end(tmp_path: Path) -> None:
    with stack(tmp_path, serving=STEADY, learner=STEADY) as running:
        running.wait("learner", PATIENCE_S)
        assert running.phases() == {"serving": "ready", "learner": "ready"}
        pids = running.pids()
        run = read_run(tmp_path)
        assert (run.pid, run.url, run.parts) == (os.getpid(), running.url, pids)
    assert not any(group_is_alive(pid) for pid in pids.values())
    with pytest.raises(StackError, match="no stack is running"):
        read_run(tmp_path)


def test_serving_stops_first_and_parts_get_their_chance_to_stop(tmp_path: Path) -> None:
    with stack(tmp_path, learner=ORDERLY, serving=ORDERLY) as running:
        running.wait("learner", PATIENCE_S)
    assert (tmp_path / "stopped").read_text() == "serving learner "


def test_a_killed_part_is_started_again_and_what_it_had_started_is_gone(tmp_path: Path) -> None:
    events: list[StackEvent] = []
    with stack(tmp_path, serving=STEADY, stream=WITH_CHILD, events=events) as running:
        running.wait("stream", PATIENCE_S)
        first, child = running.pids()["stream"], announced(tmp_path, "stream")["child"]
        running.kill("stream")
        eventually(lambda: running.pids().get("stream", first) != first)
        running.wait("stream", PATIENCE_S)
        eventually(lambda: not Path(f"/proc/{child}").exists() or is_zombie(int(str(child))))
    assert any(e.part == "stream" and e.what == "died" and "SIGKILL" in e.detail for e in events)


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_part_that_keeps_dying_is_given_up_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bakehouse.local.part.LONGEST_DELAY_S", 0.0)
    with stack(tmp_path, serving=STEADY, learner=DYING) as running:
        with pytest.raises(StackError, match=r"(?s)exit status 3.*the oven is cold"):
            running.wait("learner", PATIENCE_S)
        running.wait("serving", PATIENCE_S)  # the others go on
        assert running.wait_for_failure(timeout=0) is None


def test_a_stack_whose_serving_cannot_start_fails_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bakehouse.local.part.LONGEST_DELAY_S", 0.0)
    with pytest.raises(StackError, match="the oven is cold"), stack(tmp_path, serving=DYING):
        pass
    assert not is_held(tmp_path)


def test_restarting_a_part_is_orderly_and_is_no_death(tmp_path: Path) -> None:
    events: list[StackEvent] = []
    with stack(tmp_path, serving=ORDERLY, events=events) as running:
        first = running.pids()["serving"]
        running.restart("serving")
        running.wait("serving", PATIENCE_S)
        assert running.pids()["serving"] != first
        assert (tmp_path / "stopped").read_text() == "serving "
    assert not [event for event in events if event.what == "died"]


def test_a_second_stack_in_the_same_home_is_refused_and_told_where_the_first_is(
    tmp_path: Path,
) -> None:
    with stack(tmp_path, serving=STEADY) as first:
        with pytest.raises(HomeInUse, match=f"{os.getpid()}.*{first.url}"), stack(tmp_path):
            pass
        assert first.phases() == {"serving": "ready"}


def test_a_taken_port_is_named_before_anything_is_started(tmp_path: Path) -> None:
    with stack(tmp_path / "one", serving=STEADY) as first:
        import socket

        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            second = Stack(
                [],
                Settings(home=tmp_path / "two", port=taken),
                commands={"serving": command(STEADY, "serving")},
            )
            with pytest.raises(StackError, match=f"port {taken} is taken"), second:
                pass
        assert first.pids()


def test_the_next_start_waits_for_the_parts_of_a_killed_supervisor_and_they_do_stop(
    tmp_path: Path,
) -> None:
    script = textwrap.dedent(
        f"""
        import signal
        from pathlib import Path
        from tests.unit.test_local_supervisor import ORDERLY, stack
        with stack(Path({str(tmp_path)!r}), serving=ORDERLY, learner=ORDERLY) as running:
            running.wait("learner", 30)
            print("up", flush=True)
            signal.pause()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "up\n"
        left = list(read_run(tmp_path).parts.values())
        supervisor.send_signal(signal.SIGKILL)
    with stack(tmp_path, serving=STEADY):
        assert (tmp_path / "stopped").read_text() == "serving learner "
        assert not any(group_is_alive(pid) for pid in left)


def test_an_event_callback_may_ask_the_stack_and_may_fail(tmp_path: Path) -> None:
    asked = threading.Event()
    running: list[Stack] = []

    def ask(event: StackEvent) -> None:
        if running and event.what == "ready":
            running[0].phases()
            asked.set()
        raise RuntimeError("a broken display")

    made = Stack(
        [],
        Settings(home=tmp_path, port=0),
        on_event=ask,
        commands={"serving": command(STEADY, "serving")},
    )
    running.append(made)
    with made:
        assert asked.wait(PATIENCE_S)
    assert "a broken display" in (tmp_path / "logs" / "supervisor.log").read_text()


def test_delays_double_up_to_a_bound_and_then_the_part_is_given_up() -> None:
    delays = [restart_delay_s(deaths) for deaths in range(RAPID_DEATHS + 1)]
    assert delays == [0.5, 0.5, 1.0, 2.0, 4.0, None]


def test_a_log_that_grew_too_long_is_set_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old\n" * 10)
        bound_log(log, limit=20)
        writer.write(b"new\n")
    assert log.read_text() == "new\n"
    assert (tmp_path / "part.log.1").read_text() == "old\n" * 10
    assert last_lines(log) == "new"


def test_the_watchdog_stops_what_was_started_and_not_gone_in_order() -> None:
    lines = ["+ 3 30\n", "+ 0 10\n", "+ 1 20\n", "- 0 10\n", "+ 1 21\n", "+ 0 11\n"]
    assert watch(lines) == [[11], [20, 21], [30]]
