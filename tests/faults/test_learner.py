"""What the learner promises when it is killed, misled, or worse than it looked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from learner.batch import Rows
from learner.checkpoint import read_checkpoint
from learner.learning import Learning
from learner.loop import ApplicationLoop
from learner.plan import PlanLog
from learner.rebuild import rebuild
from learner.ring import Ring
from learner.rows import COLUMNS, Arrival, Decoder
from schemas.application import Agent, Application, Training, seconds
from schemas.bundle import load_bundle
from schemas.events import Control
from schemas.failpoints import VARIABLE, arm, is_armed
from tests.faults.learner_child import GAME, STEP_MS
from tests.learner_fakes import Clock, LinearAgent, MemoryBus, loop_of
from tests.replay_rows import T0, Table, arrow, decision, outcome

KILLED = -signal.SIGKILL

# --- killed at any point, it makes the same policies

# In the order in which they are armed, one for each life; visits count from that life's start, so
# many of them fall into what a life does again after the kill before. Version 0 is left at 6.
KILLS = [
    ("learner.checkpoint.before_rename", 1),  # at the first start
    ("learner.plan.written", 1),
    ("learner.training.inside", 1),  # carrying out that plan again
    ("learner.checkpoint.after_rename", 1),  # having carried it out again
    ("learner.plan.written", 2),
    ("learner.training.inside", 4),
    ("learner.bundle.before_rename", 1),  # the first policy
    ("learner.bundle.after_rename", 1),  # the first policy, made again
    ("learner.pointer.sent", 1),
    ("learner.checkpoint.before_rename", 2),
    ("learner.training.inside", 2),
    ("learner.bundle.before_rename", 2),
    ("learner.plan.written", 3),
    ("learner.checkpoint.after_rename", 2),
    ("learner.pointer.sent", 2),
    ("learner.bundle.after_rename", 2),
    ("learner.training.inside", 3),
    ("learner.pointer.sent", 4),
    ("learner.checkpoint.before_rename", 3),
    ("learner.bundle.before_rename", 3),
    ("learner.training.inside", 6),
    ("learner.plan.written", 6),
    ("learner.checkpoint.after_rename", 3),
]


class Child:
    """A learner's home, and lives of a learner in it."""

    def __init__(self, home: Path, *, steps: int, agent: str = "linear") -> None:
        self.home = home
        self.steps = steps
        self.agent = agent
        self.failpoints = home / "failpoints"
        home.mkdir()

    def start(self) -> subprocess.Popen[bytes]:
        with (self.home / "log").open("ab") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.faults.learner_child"),
                    *(str(self.home), str(self.steps), self.agent),
                ],
                env={**os.environ, VARIABLE: str(self.failpoints)},
                stdout=log,
                stderr=log,
            )

    def end_of(self, life: subprocess.Popen[bytes]) -> int:
        """How a life ended: 0, or killed."""
        ended = life.wait(timeout=200)
        if ended not in (0, KILLED):
            said = (self.home / "log").read_text()[-3000:]
            raise AssertionError(f"it ended with {ended}: {said}")
        return ended

    def live(self) -> int:
        """One life; returns how it ended."""
        return self.end_of(self.start())

    def killed_at(self, point: str, visit: int) -> None:
        """A life that ends there."""
        arm(self.failpoints, point, visit=visit)
        assert self.live() == KILLED, f"{point}, visit {visit}, was never reached"
        assert not is_armed(self.failpoints, point)

    def planned(self) -> int:
        """The newest version that a plan or the checkpoint knows of."""
        folder = self.home / "learner" / "game"
        state = read_checkpoint(folder / "checkpoint.npz")
        saved = state["learning"]["json"]["version"] if state else 0
        plans = PlanLog(folder / "plan.jsonl").after(0)
        return max([saved, *(plan.version for plan in plans)])

    def pointers(self) -> list[int]:
        """Versions in the order in which they were announced, repeats removed."""
        lines = (self.home / "pointers.jsonl").read_text().splitlines()
        return [version for version, _ in groupby(json.loads(line)["version"] for line in lines)]

    def bundles(self) -> dict[int, Path]:
        folder = self.home / "policies" / "game"
        assert all(path.name.isdigit() for path in folder.iterdir()), "something half-written"
        return {int(path.name): path for path in folder.iterdir()}


def same_end(killed: Child, whole: Child) -> None:
    """Both made the same policies, announced them alike, and are in the same state."""
    mine, theirs = killed.bundles(), whole.bundles()
    assert sorted(mine) == sorted(theirs)
    for version, folder in mine.items():
        other = theirs[version]
        assert (folder / "arrays.npz").read_bytes() == (other / "arrays.npz").read_bytes(), version
        manifests = [json.loads((each / "manifest.json").read_bytes()) for each in (folder, other)]
        for manifest in manifests:
            del manifest["created_at_ms"]
        assert manifests[0] == manifests[1], version
    assert killed.pointers() == whole.pointers()
    first, second = (
        _flat(read_checkpoint(each.home / "learner" / "game" / "checkpoint.npz"))
        for each in (killed, whole)
    )
    assert sorted(first) == sorted(second)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def _flat(state: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(state, dict):
        return {prefix: state}
    return {
        name: value
        for key, inner in state.items()
        for name, value in _flat(inner, f"{prefix}/{key}").items()
    }


def test_a_learner_killed_at_more_than_twenty_points_makes_the_same_policies(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    assert len(set(KILLS)) >= 20
    whole = Child(tmp_path / "whole", steps=56)
    beside = whole.start()
    killed = Child(tmp_path / "killed", steps=56)
    at = []
    for point, visit in KILLS:
        killed.killed_at(point, visit)
        at.append(killed.planned())
    assert killed.live() == 0
    assert whole.end_of(beside) == 0
    assert len(whole.bundles()) > 40
    assert len(set(at)) > 12, f"kills are to be spread over the run, not at {at}"
    same_end(killed, whole)
    record_property("kills", len(KILLS))
    print(f"{len(KILLS)} kills, at versions {at}: the same {len(whole.bundles())} policies")


def test_an_agent_of_tensorflow_killed_while_training_makes_the_same_policies(
    tmp_path: Path,
) -> None:
    whole = Child(tmp_path / "whole", steps=24, agent="neural_greedy")
    killed = Child(tmp_path / "killed", steps=24, agent="neural_greedy")
    beside = whole.start()
    killed.killed_at("learner.training.inside", 7)
    killed.killed_at("learner.bundle.before_rename", 2)
    assert killed.live() == 0
    assert whole.end_of(beside) == 0
    assert whole.bundles()
    same_end(killed, whole)
