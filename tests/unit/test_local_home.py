"""A home is one stack's at a time, and tells others where that stack is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bakehouse.local.home import Run, hold, is_held, read_run
from bakehouse.local.ports import is_free, keep_ports
from bakehouse_schemas.errors import HomeInUse, StackError

RUN = Run(
    pid=os.getpid(),
    url="http://127.0.0.1:8080",
    kafka_bootstrap="127.0.0.1:9092",
    applications=["game.py"],
    names=["game"],
    started_at_ms=0,
    parts={"serving": 4},
)


def test_what_a_running_stack_writes_is_what_others_read(tmp_path: Path) -> None:
    with hold(tmp_path):
        RUN.write(tmp_path)
        assert read_run(tmp_path) == RUN
    with pytest.raises(StackError, match="no stack is running"):
        read_run(tmp_path)


def test_a_stack_that_is_only_just_starting_is_said_to_be(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(StackError, match="only just begun"):
        read_run(tmp_path)


def test_what_a_killed_stack_left_is_not_taken_for_a_running_one(tmp_path: Path) -> None:
    RUN.write(tmp_path)
    (tmp_path / "lock").write_text("1")
    assert not is_held(tmp_path)
    with pytest.raises(StackError, match="no stack is running"):
        read_run(tmp_path)


def test_whoever_asks_a_home_while_a_demo_runs_below_it_is_told_where(tmp_path: Path) -> None:
    (tmp_path / "demo-20260101-000000").mkdir()
    with pytest.raises(StackError, match=r"or its address with --url$"):
        read_run(tmp_path)  # that one is over
    with (
        hold(tmp_path / "demo-20260102-000000") as _,
        pytest.raises(StackError, match=r"A demo runs: say --home .*/demo-20260102-000000$"),
    ):
        read_run(tmp_path)


def test_a_held_home_is_refused_with_process_and_address(tmp_path: Path) -> None:
    with hold(tmp_path):
        RUN.write(tmp_path)
        with pytest.raises(HomeInUse, match=rf"{os.getpid()} .*{RUN.url}"), hold(tmp_path):
            pass
        assert read_run(tmp_path) == RUN  # the first is as it was


def test_the_parts_of_a_dead_stack_are_waited_for_no_longer_than_said(tmp_path: Path) -> None:
    with hold(tmp_path):
        (tmp_path / "lock").write_text(str(2**22 + 1))  # no such process: beyond pid_max
        with pytest.raises(HomeInUse), hold(tmp_path, stopping_timeout_s=0.1):
            pass


def test_ports_are_kept_while_they_are_free_and_never_given_twice(tmp_path: Path) -> None:
    import socket

    file = tmp_path / "ports.json"
    first = keep_ports(file, ["broker", "controller"])
    assert len(set(first.values())) == 2
    assert keep_ports(file, ["broker", "controller"]) == first
    with socket.create_server(("127.0.0.1", first["broker"])):
        assert not is_free(first["broker"])
        second = keep_ports(file, ["broker", "controller"])
    assert second["broker"] != first["broker"]
    assert second["controller"] == first["controller"]
