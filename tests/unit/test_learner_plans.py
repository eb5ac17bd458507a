"""When to train, on which rows, and what is written down before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bakehouse_learner.artifacts.checkpoint import read_checkpoint, write_checkpoint
from bakehouse_learner.training.cadence import Cadence
from bakehouse_learner.training.minibatches import draw_rows
from bakehouse_learner.training.plan import Plan, PlanLog
from bakehouse_schemas.application.application import seconds


def plan(version: int) -> Plan:
    return Plan(version=version, replay_version=version, stream_time_ms=5, seed=7, at_ms=9)


def test_a_row_that_comes_after_a_pause_is_trained_on_at_once() -> None:
    cadence = Cadence(seconds(0.5))
    assert cadence.is_due(now=100.0, last=None, new=1)
    assert cadence.is_due(now=100.0, last=90.0, new=1)


def test_trainings_are_at_least_the_cadence_apart() -> None:
    cadence = Cadence(seconds(0.5))
    assert not cadence.is_due(now=100.25, last=100.0, new=1)
    assert cadence.wait_s(now=100.25, last=100.0) == 0.25
    assert cadence.is_due(now=100.5, last=100.0, new=1)


def test_nothing_new_is_nothing_to_train() -> None:
    assert not Cadence(seconds(0.5)).is_due(now=100.0, last=None, new=0)


def test_every_new_row_is_in_a_minibatch_and_the_rest_is_drawn() -> None:
    fresh, trainable = np.arange(10), np.arange(100)
    (slots,) = draw_rows(fresh, trainable, per_call=40, rng=np.random.default_rng(0))
    assert set(fresh) <= set(slots.tolist())
    assert len(slots) == 40
    assert len(set(slots.tolist()) - set(range(10))) > 10


def test_more_new_rows_than_fit_make_more_calls_of_the_same_size() -> None:
    fresh = np.arange(95)
    calls = draw_rows(fresh, fresh, per_call=40, rng=np.random.default_rng(0))
    assert [len(call) for call in calls] == [40, 40, 40]
    assert set(np.concatenate(calls).tolist()) == set(range(95))


def test_the_same_seed_draws_the_same_rows() -> None:
    drawn = [
        draw_rows(np.arange(3), np.arange(50), per_call=20, rng=np.random.default_rng(5))[0]
        for _ in range(2)
    ]
    assert drawn[0].tolist() == drawn[1].tolist()


def test_plans_are_read_back_after_a_version(tmp_path: Path) -> None:
    log = PlanLog(tmp_path / "plan.jsonl")
    for version in (1, 2, 3):
        log.append(plan(version))
    assert [each.version for each in log.after(1)] == [2, 3]
    log.keep_after(2)
    log.append(plan(4))
    assert [each.version for each in log.after(0)] == [3, 4]


def test_half_a_line_is_dropped_and_the_log_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "plan.jsonl"
    log = PlanLog(path)
    log.append(plan(1))
    with path.open("ab") as file:
        file.write(plan(2).model_dump_json().encode()[:20])
    log = PlanLog(path)
    log.append(plan(3))
    assert [each.version for each in log.after(0)] == [1, 3]


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "checkpoint.npz"
    assert read_checkpoint(path) is None
    write_checkpoint(
        path, {"json": {"a": [1, None]}, "b": {"c/d": np.arange(3), "json": "text"}, "e": {}}
    )
    state = read_checkpoint(path)
    assert state is not None
    assert state["json"] == {"a": [1, None]}
    assert state["b"]["c/d"].tolist() == [0, 1, 2]
    assert state["b"]["json"] == "text"


def test_a_damaged_checkpoint_says_so(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(path, {"a": np.arange(1000)})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="is no checkpoint"):
        read_checkpoint(path)
