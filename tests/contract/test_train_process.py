"""`bakehouse train` as a person runs it: a process, real files, TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bakehouse.examples.level_difficulty import application, world
from bakehouse_schemas.policy.bundle import load_bundle
from bakehouse_schemas.worlds.fitted_world import FittedWorld

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]
REF = "applications/level_difficulty.py"


def log_of_players(folder: Path, rows: int = 3_000) -> Path:
    """What players did with difficulties that a die chose."""
    rng, labels = np.random.default_rng(0), application.actions.choices
    made: list[dict[str, Any]] = []
    for _ in range(rows):
        context = world.context(rng)
        action = labels[rng.integers(3)]
        happened = {one.name for one in world.happenings(context, action, rng)}
        outcomes = {name: name in happened for name in ("level_won", "level_lost", "quit")}
        made.append({**context, **outcomes, "action": action, "propensity": 1 / 3})
    pq.write_table(pa.Table.from_pylist(made), folder / "log.parquet")
    return folder / "log.parquet"


def bakehouse(*arguments: str, cwd: Path = ROOT) -> tuple[int, dict[str, Any], str]:
    ran = subprocess.run(
        [sys.executable, "-m", "bakehouse.cli", *arguments, "--json"],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    return ran.returncode, json.loads(ran.stdout.splitlines()[-1]), ran.stderr


def test_a_log_becomes_a_bundle_that_serving_can_load_and_a_warm_start(tmp_path: Path) -> None:
    home, source = tmp_path / "home", log_of_players(tmp_path)
    status, answer, said = bakehouse(
        "train", REF, "--from", str(source), "--home", str(home), "--steps", "400"
    )
    assert status == 0, said
    assert answer["trained_on"] == 2_400 and answer["minibatches"] == 400
    assert Path(answer["warm_start"]).exists()
    loaded = load_bundle(
        Path(answer["bundle"]),
        application=application.name,
        contract=application.contract,
        sha256=None,
    )
    assert loaded.manifest.agent == "neural_greedy"
    judged = answer["evaluation"]["policies"]
    assert [one["policy"] for one in judged] == ["trained", "baseline", "random"]
    assert judged[0]["learned_from"] == 0
    assert answer["evaluation"]["n"] == 600
    by_random = answer["evaluation"]["differences"][1]["estimates"][0]
    assert by_random["lower"] > 0  # better than a die, beyond doubt
    assert "400 of 400 minibatches" in said and "s left" in said
    assert "absl" not in said and "Gym" not in said


def test_what_cannot_be_learned_from_is_said_in_words(tmp_path: Path) -> None:
    status, answer, said = bakehouse(
        "train", REF, "--from", str(tmp_path / "nothing.csv"), "--home", str(tmp_path)
    )
    assert status == 2
    assert answer["error"] == "InvalidHistory"
    assert "there is nothing there" in answer["message"]
    assert "there is nothing there" in said


@pytest.mark.long
def test_a_log_becomes_a_world_and_a_verdict_on_it(tmp_path: Path) -> None:
    source, world_file = log_of_players(tmp_path), tmp_path / "worlds" / "may.npz"
    status, answer, said = bakehouse(
        "fit-world", REF, "--from", str(source), "--out", str(world_file), "--home",
        str(tmp_path / "home"), "--agents", "lin_ucb,dqn_of_another_kind",
    )  # fmt: skip
    assert status == 0, said
    assert (answer["fitted_to"], answer["held_out"]) == (2_100, 900)
    names = [one["policy"] for one in answer["policies"]]
    assert names == ["baseline", "random", "lin_ucb", "contrary to lin_ucb"]
    assert any("dqn_of_another_kind is left out" in note for note in answer["notes"])
    assert answer["verdict"] == "trust it" and answer["kendall_tau"] > 0.6
    assert FittedWorld.load(world_file, application).fitted.contract == application.contract
    status, refused, _ = bakehouse(
        "fit-world", "applications/quest_chain.py", "--from", str(source)
    )
    assert status == 2 and "episodic" in refused["message"]
