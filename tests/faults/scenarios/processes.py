"""Processes that die, and a second stack."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bakehouse_serving.spool.frames import Record, Topic, frame
from tests.faults.beside import hold
from tests.faults.game import REF
from tests.faults.rig import Measured, Rig
from tests.faults.scenarios.network import drained


def parts_killed(rig: Rig) -> Measured:
    """Serving, stream and learner are killed in turn, at any moment: each comes back."""
    seconds = {}
    for part in ("serving", "stream", "learner"):
        began = time.monotonic()
        rig.kill(part, rig.keep_checkpoint if part == "stream" else rig.do_nothing)
        seconds[f"{part}_s"] = round(time.monotonic() - began, 1)
    return seconds


def spool_tail_torn(rig: Rig) -> Measured:
    """A record was half written when serving died: it is cut off, and all others are published."""
    torn = frame(Record(Topic.DECISIONS, b"half", b"{" + b"x" * 500))[:200]

    def tear() -> None:
        last = max((rig.home / "spool" / "0").glob("*.log"))
        with last.open("ab") as file:
            file.write(torn)

    rig.kill("serving", tear)
    damaged = rig.status()["serving"]["spool"]["damaged"]
    hold(damaged == 1, f"{damaged} damaged stretches, expected the torn one")
    return {"damaged": damaged, "drained_s": drained(rig)}


def two_stacks(rig: Rig) -> Measured:
    """A second stack is started on the home: it refuses, with the reason, and the first goes on."""
    command = [str(Path(sys.executable).with_name("bakehouse")), "up"]
    ended = subprocess.run(
        [*command, REF, "--home", str(rig.home), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = ended.stderr + ended.stdout
    hold(ended.returncode == 2, f"the second stack ended with {ended.returncode}: {said}")
    hold("is in use" in said and rig.url in said, f"it did not say why: {said}")
    hold(rig.status()["policy_version"] >= 0, "the first stack does not answer")
    return {"exit_status": ended.returncode}
