"""Figures beside a learning loop: each decision once, through restarts, and never in the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from bakehouse_learner.artifacts.checkpoint import read_checkpoint, write_checkpoint
from bakehouse_learner.insight.insight import Insight
from bakehouse_learner.insight.record import MOST_BYTES, fitted, shortened
from bakehouse_learner.online.loop import ApplicationLoop
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.replay.row_decoder import RowDecoder
from bakehouse_schemas.application.application import Agent, Episodic, Rollout, seconds
from bakehouse_schemas.application.observation import Numeric
from tests.learner_fakes import GAME, Play, loop_of, same
from tests.replay_rows import T0, arrow, decision, following, outcome


def told(loop: ApplicationLoop, play: Play) -> dict[str, Any]:
    """The next record; there must be one."""
    play.clock.s += 3.0
    record = loop.figures("7")
    assert record is not None
    return record


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


@pytest.fixture
def played(play: Play) -> Iterator[tuple[Play, ApplicationLoop]]:
    loop = play.loop()
    loop.start()
    for _ in range(12):
        play.second(loop)
    yield play, loop
    loop.watch.close()


def test_a_record_says_whose_it_is_and_comes_every_two_seconds_while_anything_changes(
    played: tuple[Play, ApplicationLoop],
) -> None:
    play, loop = played
    record = told(loop, play)
    assert (record["part"], record["process"], record["application"]) == (
        "learner", "7/insight/game", "game"
    )  # fmt: skip
    assert record["at_ms"] == play.clock.wall_ms()
    insight = record["insight"]
    assert insight["decisions"] == sum(insight["outcomes"].values()) > 500
    assert insight["candidates"][0]["version"] == loop.version
    assert insight["candidates"][0]["trigger"].startswith("cadence, ")
    assert loop.figures("7") is None
    play.clock.s += 3.0
    assert loop.figures("7") is None  # nothing has changed
    play.second(loop)
    assert told(loop, play)["insight"]["decisions"] > insight["decisions"]


def test_figures_go_on_after_a_restart_and_count_nothing_twice(
    played: tuple[Play, ApplicationLoop],
) -> None:
    play, loop = played
    loop.close()
    again = play.loop()
    again.start()
    assert again.watch.insight.figures(None) == loop.watch.insight.figures(None)
    for _ in range(3):
        play.second(again)
    play.clock.s += 5.0
    play.bus.now_ms = play.clock.wall_ms()
    again.turn()
    insight = told(again, play)["insight"]
    assert (insight["decisions"], insight["skipped"]) == (15 * 60, 0)
    again.watch.close()


def test_a_ring_rebuilt_from_the_table_counts_nothing_twice(
    played: tuple[Play, ApplicationLoop],
) -> None:
    play, loop = played
    loop.close()
    counted = loop.watch.insight.decisions
    rebooted = loop_of(play.application, play.home, play.bus, play.clock, boot="second")
    rebooted.start()
    assert rebooted.learning.ring.head == 12 * 60
    play.clock.s += 5.0
    play.bus.now_ms = play.clock.wall_ms()
    rebooted.turn()
    insight = told(rebooted, play)["insight"]
    assert counted < insight["decisions"] == 12 * 60
    assert insight["lift"]["policy"]["n"] == sum(
        loop.learning.ring.policy_version[: loop.learning.ring.size] > 0
    )
    rebooted.watch.close()


def test_a_checkpoint_of_an_earlier_release_is_taken_up(
    played: tuple[Play, ApplicationLoop],
) -> None:
    play, loop = played
    loop.close()
    path = play.home / "learner" / "game" / "checkpoint.npz"
    state = read_checkpoint(path)
    assert state is not None
    del state["insight"]
    for name in ("subject", "simulated", "cohort", "online", "explored", "chance", "heard"):
        del state["learning"]["ring"][name]
    write_checkpoint(path, state)
    again = play.loop()
    again.start()
    same(again.learning, loop.learning)
    assert again.learning.ring.head == 12 * 60
    for _ in range(4):
        play.second(again)
    assert 0 < again.watch.insight.decisions < 5 * 60  # what was there before says too little
    assert again.watch.failures == 0
    again.watch.close()


def test_figures_that_cannot_be_read_begin_anew_and_the_learning_goes_on(
    played: tuple[Play, ApplicationLoop],
) -> None:
    play, loop = played
    loop.close()
    path = play.home / "learner" / "game" / "checkpoint.npz"
    state = read_checkpoint(path)
    assert state is not None
    state["insight"]["json"]["cursor"] = {}
    write_checkpoint(path, state)
    again = play.loop()
    again.start()
    same(again.learning, loop.learning)
    assert again.watch.insight.decisions == 0
    again.watch.close()


def test_policies_are_the_same_with_figures_and_without(tmp_path: Path) -> None:
    """Also where figures fail: they rest for a minute, and nothing is learned otherwise."""

    class Broken(Insight):
        def take(self, ring: Ring, stream_time_ms: int) -> None:
            raise RuntimeError("no figures today")

    loops = []
    for name, broken in (("with", False), ("without", True)):
        play = Play(tmp_path / name)
        loop = play.loop()
        if broken:
            loop.watch.insight.__class__ = Broken
        loop.start()
        for _ in range(10):
            play.second(loop)
        loops.append(loop)
        loop.watch.close()
    assert (loops[0].watch.failures, loops[1].watch.failures) == (0, 1)
    assert loops[1].status()["problem"] is None
    same(*(loop.learning for loop in loops))


@pytest.mark.parametrize("mode", ["online", "logging_only", "apprentice"])
def test_figures_are_there_before_there_is_an_agent_and_in_every_mode(
    mode: str, tmp_path: Path
) -> None:
    """Without bounds on the page a thousand rows must come before anything is learned."""
    game = replace(GAME, observation=[Numeric("x")], mode=mode)  # type: ignore[arg-type] # one of them
    play = Play(tmp_path, application=game)
    loop = play.loop()
    loop.start()
    for _ in range(6):
        play.second(loop)
    assert loop.learning.agent is None
    insight = told(loop, play)["insight"]
    assert 0 < insight["decisions"] < 6 * 60
    assert insight["candidates"] == []
    assert loop.watch.failures == 0
    loop.watch.close()


def test_what_leaves_the_buffer_first_is_counted_as_skipped(tmp_path: Path) -> None:
    game = replace(GAME, training=replace(GAME.training, buffer=100))
    play = Play(tmp_path, application=game)
    loop = play.loop()
    loop.start()
    play.second(loop, players=260)
    play.clock.s += 5.0
    play.bus.now_ms = play.clock.wall_ms()
    loop.turn()
    insight = told(loop, play)["insight"]
    assert (insight["decisions"], insight["skipped"]) == (100, 160)
    loop.watch.close()


# --- an Insight alone, fed with rows by hand


class Fed:
    """A ring and its figures."""

    def __init__(self, application: Any = GAME) -> None:
        self.application = application
        self.ring = Ring(application)
        self.decoder = RowDecoder(application)
        self.insight = self.figures_of_nothing()

    def figures_of_nothing(self) -> Insight:
        return Insight(self.application, policies=Path("nowhere"), rng=np.random.default_rng(0))

    def take(self, rows: list[dict[str, Any]], now_ms: int) -> dict[str, Any]:
        self.ring.ingest(self.decoder.decode(arrow(rows)))
        self.insight.take(self.ring, now_ms)
        return self.insight.figures(None)


def made(at_ms: int, action: str = "left", **changes: Any) -> dict[str, Any]:
    probabilities = json.dumps({"left": 0.75, "right": 0.25})
    return decision(
        GAME, {"x": 0.5}, action, at_ms=T0 + at_ms, action_probabilities=probabilities, **changes
    )


def test_an_outcome_that_comes_later_moves_its_decision_from_never_to_late() -> None:
    fed, first, second = Fed(), made(0), made(1)
    figures = fed.take([first, outcome(first, "won", after_ms=500), second], T0 + 5_000)
    assert figures["outcomes"] == {"in_time": 1, "late": 0, "never": 1}
    late = outcome(second, "won", after_ms=500, received_after_ms=9_000)
    figures = fed.take([late], T0 + 9_000)
    assert figures["outcomes"] == {"in_time": 1, "late": 1, "never": 0}
    assert figures["decisions"] == 2
    assert figures["lift"]["policy"]["n"] == 0  # version 0 is no policy


def test_decisions_wait_for_those_before_them() -> None:
    fed, first, second = Fed(), made(0), made(1)
    figures = fed.take([first, second, outcome(second, "won", after_ms=100)], T0 + 500)
    assert figures["decisions"] == 0  # the second is closed, the first is still open
    assert fed.take([], T0 + 2_000)["decisions"] == 2


def test_it_is_counted_who_was_simulated_explored_and_excluded() -> None:
    fed = Fed()
    rows = [
        made(0, subject_id="simulated-1", explored=True),
        made(1, subject_id="anna", eligible_actions='["right"]'),
        made(2, subject_id="anna", cohort="holdout", propensity=1.0),
        made(3, subject_id="bert", cohort="fallback", propensity=1.0),
        made(4, subject_id="carl", contested=True),
    ]
    figures = fed.take(rows, T0 + 5_000)
    assert (figures["decisions"], figures["simulated"]) == (4, 1)
    assert figures["exploration"] == {"observed": 0.5, "expected": 0.25, "n": 2}
    assert figures["trust"]["excluded"] == {"checked": 4, "violations": 1}
    ratio = figures["trust"]["sample_ratio"]
    assert (ratio["expected"], ratio["subjects"]) == (0.1, 3)  # anna once, bert never


def test_what_the_game_did_in_place_of_an_eligible_decision_is_looked_at_too() -> None:
    fed = Fed()
    row = made(0, action="left", eligible_actions='["left"]')
    did = outcome(row, kind="executed", after_ms=100, executed_action='"right"')
    figures = fed.take([row, did], T0 + 5_000)
    assert figures["trust"]["excluded"] == {"checked": 1, "violations": 1}


def test_random_is_told_by_evaluation_and_the_policy_as_it_was() -> None:
    """`left` pays and is done ¾ of the time: the policy earns ¾, at random it would be ½."""
    fed = Fed()
    rows: list[dict[str, Any]] = []
    for at in range(400):
        left = at % 4 != 0
        row = made(at, "left" if left else "right", propensity=0.75 if left else 0.25,
                   policy_version=3)  # fmt: skip
        rows += [row, outcome(row, "won", after_ms=10)] if left else [row]
    figures = fed.take(rows, T0 + 9_000)
    series = figures["series"]
    assert series["policy"]["mean"] == [pytest.approx(0.75)]
    assert series["random"]["mean"] == [pytest.approx(0.5)]
    assert series["actions"] == {"left": [300], "right": [100]}
    assert series["version"] == [3]
    assert figures["lift"]["policy"] == {
        "n": 400, "subjects_at_least": 1,
        "mean": pytest.approx(0.75), "std": pytest.approx(0.4335, abs=1e-3)
    }  # fmt: skip


def test_of_episodes_the_lift_is_in_returns_and_a_mixed_one_is_nobodys() -> None:
    """γ = ½: rewards 1 and 1 are worth 1.5; an episode begun by a policy and ended by the
    fallback belongs to neither side."""
    game = replace(
        GAME,
        problem=Episodic(discount=0.5, n_step=1, timeout=seconds(30)),
        agent=Agent("dqn"),
        rollout=Rollout(holdout=0.5),
    )
    fed = Fed(game)

    def episode(at_ms: int, cohorts: tuple[str, str]) -> list[dict[str, Any]]:
        version = {"policy": 2, "holdout": 0, "fallback": 0}
        first = decision(game, {"x": 0.1}, "left", at_ms=T0 + at_ms, cohort=cohorts[0],
                         policy_version=version[cohorts[0]])  # fmt: skip
        second = decision(game, {"x": 0.9}, "left", at_ms=T0 + at_ms + 500, cohort=cohorts[1],
                          policy_version=version[cohorts[1]],
                          previous=first["decision_id"])  # fmt: skip
        return [
            first, second, following(first, second), outcome(first, "won", after_ms=100),
            outcome(second, "won", after_ms=100), outcome(second, kind="end", after_ms=200),
        ]  # fmt: skip

    rows = episode(0, ("policy", "policy"))
    rows += episode(10, ("holdout", "holdout")) + episode(20, ("policy", "fallback"))
    fed.ring.ingest(fed.decoder.decode(arrow(rows)))
    fed.ring.mature(T0 + 9_000)
    figures = fed.take([], T0 + 9_000)
    assert figures["decisions"] == 6
    one = {"n": 1, "subjects_at_least": 1, "mean": 1.5, "std": 0.0}
    assert figures["lift"]["policy"] == figures["lift"]["holdout"] == one
    assert figures["series"]["random"]["n"] == [0]


def test_state_is_all_there_is() -> None:
    fed = Fed()
    rows = [made(at, policy_version=at % 3, subject_id=f"p{at}") for at in range(50)]
    fed.take(rows, T0 + 5_000)
    again = fed.figures_of_nothing()
    again.restore(fed.insight.state())
    assert again.figures(None) == fed.insight.figures(None)
    more = [made(at, policy_version=4) for at in range(60, 90)]
    fed.ring.ingest(fed.decoder.decode(arrow(more)))
    for insight in (fed.insight, again):
        insight.take(fed.ring, T0 + 9_000)
    assert again.figures(None) == fed.insight.figures(None)


# --- the record


def test_numbers_are_short_and_what_json_cannot_carry_is_null() -> None:
    assert shortened({"a": [1 / 3, 12_345_678.9, 7], "b": float("nan"), "c": (True, "x")}) == {
        "a": [0.33333, 12_346_000.0, 7], "b": None, "c": [True, "x"]
    }  # fmt: skip


def test_a_record_is_made_to_fit_newest_candidates_and_points_stay() -> None:
    times = list(range(240))
    record = {
        "insight": {
            "candidates": [{"version": 60 - at, "reason": "x" * 900} for at in range(60)],
            "series": {
                "bucket_ms": 1_000,
                "at_ms": times,
                "policy": {"n": [10_000_000] * 240},
                "actions": {f"label-{at}": [123_456] * 240 for at in range(30)},
                "version": times,
            },
        }
    }
    assert len(orjson.dumps(record)) > MOST_BYTES
    found = fitted(record)
    assert len(orjson.dumps(found)) <= MOST_BYTES
    insight = found["insight"]
    assert insight["candidates"][0]["version"] == 60
    assert 10 <= len(insight["candidates"]) < 60
    assert insight["series"]["at_ms"][-1] == 239
    assert len(insight["series"]["policy"]["n"]) == len(insight["series"]["at_ms"])
