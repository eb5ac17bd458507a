"""Stops the parts of a stack whose supervisor was killed. Run by the supervisor only.

Reads lines from standard input: `+ ORDER PID` when a part was started, `- ORDER PID` when it
has gone (each part leads a process group). The end of input means that the supervisor is no
more: what is left is asked to stop, lowest order first, and killed when it takes too long.

It runs in a session of its own, so that neither Ctrl-C nor a closed terminal reaches it, needs
the standard library alone, and has the lock of the home until it is done.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress

STOP_TIMEOUT_S = 10.0  # a part; a person who killed the supervisor does not wait for long


def group_is_alive(group: int) -> bool:
    """Whether any process of the group still runs; a zombie that nobody reaps does not."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    states = group_states(group)
    return states is None or any(state not in ("Z", "X") for state in states)


def group_states(group: int) -> list[str] | None:
    """The states of a group's processes as the kernel writes them; None without a /proc."""
    try:
        processes = [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 (names)
    except OSError:
        return None
    states = []
    for process in processes:
        with suppress(OSError), open(f"/proc/{process}/stat") as file:  # noqa: PTH123 (quick)
            # pid (name) state parent group …; a name may hold anything, also brackets
            state, _, its_group = file.read().rpartition(")")[2].split()[:3]
            if int(its_group) == group:
                states.append(state)
    return states


def send(group: int, number: signal.Signals) -> None:
    """Send a signal to a whole group, if there is one."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def end_group(group: int, timeout_s: float) -> None:
    """Wait until a group is gone whose leader was asked to stop; kill what stays too long."""
    deadline = time.monotonic() + timeout_s
    while group_is_alive(group) and time.monotonic() < deadline:
        time.sleep(0.05)  # these are nobody's children here: there is nothing to wait on
    send(group, signal.SIGKILL)


def watch(lines: Iterable[str]) -> list[list[int]]:
    """The groups that are left at the end of input: those that stop together, in order."""
    groups: dict[int, int] = {}
    for line in lines:
        sign, order, group = line.split()
        if sign == "+":
            groups[int(group)] = int(order)
        else:
            groups.pop(int(group), None)
    return [
        [group for group, its in groups.items() if its == order]
        for order in sorted(set(groups.values()))
    ]


def stop_all(lines: Iterable[str]) -> None:
    """Wait for the end of input, then stop what is left."""
    for together in watch(lines):
        for group in together:
            with suppress(ProcessLookupError):
                os.kill(group, signal.SIGTERM)  # the leader; it stops its own children in order
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for group in together:
            end_group(group, deadline - time.monotonic())


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    stop_all(sys.stdin)
