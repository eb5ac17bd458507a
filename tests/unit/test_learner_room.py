"""A buffer too small for decisions to mature in it: said by the log, the status and `check`."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bakehouse.describe import describe, rate_words
from bakehouse_learner.replay.buffer_size import RoomWatch, room_in
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.replay.row_decoder import RowDecoder
from bakehouse_schemas.application.actions import Continuous, Parts
from bakehouse_schemas.application.application import (
    Agent,
    Application,
    Discrete,
    Episodic,
    Training,
    hours,
    seconds,
)
from bakehouse_schemas.application.observation import Numeric, Vector
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.replay.buffer_size import (
    BESIDE_COLUMNS,
    buffer_needed,
    bytes_each,
    rate_carried,
)
from bakehouse_serving.dashboard.pipeline_health import stages
from bakehouse_serving.dashboard.stage import Activity, Snapshot
from tests.learner_fakes import GAME, Play
from tests.replay_rows import T0, arrow, decision, following, outcome
from tests.unit.test_serving_pipe import FIGURES, OWN, STREAM

# 60 decisions a second that are awaited for 2 s: 120 are open at a time
SMALL = replace(
    GAME,
    reward=Reward({"won": 1.0}, window=seconds(2)),
    training=Training(every=seconds(0.5), buffer=100, batch=32, steps=2),
)
LARGE = replace(SMALL, training=replace(SMALL.training, buffer=1_000))


def played(home: Path, application: Application, seconds_: int, *, players: int = 60) -> Any:
    play = Play(home, application=application)
    loop = play.loop()
    loop.start()
    for _ in range(seconds_):
        play.second(loop, players=players)
    return play, loop


def stage(status: dict[str, Any]) -> dict[str, Any]:
    """The learner's, as `bakehouse status` and the dashboard have it."""
    learner = {"at_ms": 1_000_000, "problem": None}
    status = json.loads(json.dumps(status, allow_nan=False)) | {"replay_version": 40}
    snapshot = Snapshot(OWN, FIGURES, STREAM, learner, status)
    made = stages(snapshot, Activity(), now_ms=1_000_000, target_s=2.0)
    (found,) = [one for one in made if one["stage"] == "learner"]
    return found


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "bakehouse_learner.replay.buffer_size"
        and record.levelno == logging.WARNING
    ]


def test_where_nothing_matures_the_log_says_so_once_and_the_learner_is_blocked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, loop = played(tmp_path, SMALL, 30)
    status = loop.status()
    assert (status["matured"], status["version"]) == (0, 0)
    assert status["room"]["level"] == "none"
    (said,) = warnings(caplog)
    assert said.startswith("game: none of the decisions mature before they leave the buffer: at ")
    assert "it holds 1 s, and something is awaited for 2 seconds" in said
    needed = status["room"]["needed"]
    assert 120 < needed <= 250  # they come in bursts, and 100 of them are a burst and a half
    assert f"Training(buffer=…) from 100 to at least {needed} (some" in said
    shown = stage(status)
    assert shown["level"] == "blocked"
    assert shown["blocks"] == "no decision matures before it leaves the buffer"
    assert f"from 100 to at least {needed} (some" in shown["do"]
    assert "shorten the window" in shown["do"]


def test_the_buffer_that_is_named_does(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    needed = buffer_needed(SMALL, 60.0)
    enough = replace(SMALL, training=replace(SMALL.training, buffer=needed))
    _, loop = played(tmp_path, enough, 30)
    assert loop.status()["version"] > 0, "a policy answers"
    assert loop.status()["room"]["level"] == "enough"
    assert warnings(caplog) == []
    assert stage(loop.status())["level"] == "ok"


def test_a_buffer_that_is_not_full_says_nothing(tmp_path: Path) -> None:
    _, loop = played(tmp_path, LARGE, 5)
    assert loop.status()["room"] is None
    assert stage(loop.status())["level"] == "ok"


def test_where_players_get_fewer_it_ends_and_where_they_come_back_it_is_said_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bakehouse_learner.replay.buffer_size")
    play, loop = played(tmp_path, SMALL, 10)
    for _ in range(30):
        play.second(loop, players=10)
    assert loop.status()["room"]["level"] == "enough"
    assert caplog.records[-1].getMessage().startswith("game: decisions mature before they leave")
    for _ in range(10):
        play.second(loop, players=200)
    assert len([said for said in warnings(caplog) if "none of" in said]) == 2


def test_when_nobody_plays_any_more_what_is_resident_matures(tmp_path: Path) -> None:
    play, loop = played(tmp_path, SMALL, 10)
    for _ in range(5):
        play.second(loop, players=0)
    assert loop.status()["matured"] == 100
    assert loop.status()["room"]["level"] == "enough"


def filled(application: Application, closes: Any, *, every_ms: int = 20) -> Ring:
    """A full ring of one decision every 20 ms, of which `closes(at, row)` makes outcomes."""
    ring, rows = Ring(application), list[dict[str, Any]]()
    for at in range(3 * application.training.buffer):
        row = decision(application, {"x": 0.5}, "left", at_ms=T0 + every_ms * at)
        rows += [row, *closes(at, row)]
    ring.ingest(RowDecoder(application).decode(arrow(rows)))
    return ring


@pytest.mark.parametrize(("one_in", "level"), [(1, "enough"), (2, "some"), (1_000, "none")])
def test_decisions_that_outcomes_close_early_have_matured(one_in: int, level: str) -> None:
    reward = Reward({"won": 1.0}, window=hours(24), closes_after=1)
    application = replace(SMALL, reward=reward, training=Training(buffer=400))

    def closes(at: int, row: dict[str, Any]) -> list[dict[str, Any]]:
        return [outcome(row, "won", after_ms=5)] if at % one_in == 0 else []

    room = room_in(filled(application, closes), application, T0)
    assert room is not None
    assert room.level == level


def test_an_end_closes_a_decision_too() -> None:
    application = replace(SMALL, reward=Reward({"won": 1.0}, window=hours(24)))
    ring = filled(application, lambda _, row: [outcome(row, kind="end", after_ms=5)])
    room = room_in(ring, application, T0)
    assert room is not None and room.level == "enough"


@pytest.mark.parametrize(("ends", "level"), [(True, "enough"), (False, "none")])
def test_of_episodes_the_last_decision_waits_for_the_timeout_unless_an_end_comes(
    ends: bool, level: str
) -> None:
    """Decisions in between have a successor, and mature after a second."""
    application = replace(
        SMALL,
        reward=Reward({"won": 1.0}, window=seconds(1)),
        problem=Episodic(discount=0.9, timeout=seconds(60)),
        agent=Agent("dqn"),
        training=Training(buffer=200),
    )
    ring, rows = Ring(application), list[dict[str, Any]]()
    for episode in range(100):
        row = decision(application, {"x": 0.5}, "left", at_ms=T0 + 100 * episode)
        for step in range(1, 5):
            after = decision(
                application, {"x": 0.5}, "left", at_ms=T0 + 100 * episode + step,
                previous_decision_id=row["decision_id"],
            )  # fmt: skip
            rows += [row, following(row, after)]
            row = after
        rows += [row, *([outcome(row, kind="end", after_ms=1)] if ends else [])]
    ring.ingest(RowDecoder(application).decode(arrow(rows)))
    room = room_in(ring, application, T0)
    assert room is not None
    assert room.level == level
    assert room.needed == buffer_needed(application, room.per_s) > room.per_s * 61


def test_the_level_does_not_go_to_and_fro(caplog: pytest.LogCaptureFixture) -> None:
    """Half of all decisions are closed early, a little more or less."""
    reward = Reward({"won": 1.0}, window=hours(24), closes_after=1)
    application = replace(SMALL, reward=reward, training=Training(buffer=400))
    watch = RoomWatch(application)
    for turn, open_of_twenty in enumerate((1, 0, 1, 2, 1, 1, 20, 19, 20, 19)):
        ring = filled(
            application,
            lambda at, row, most=open_of_twenty: (
                [] if at % 20 < most else [outcome(row, "won", after_ms=5)]
            ),
        )
        watch.look(ring, T0, float(turn))
    words = [said.partition(" of the decisions")[0] for said in warnings(caplog)]
    assert words == ["game: not more than 95%", "game: not more than 95%", "game: none"]


def test_a_buffer_that_has_become_more_than_twice_as_large_is_named_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = RoomWatch(SMALL)
    for turn, every_ms in enumerate((10, 9, 6, 3, 2)):
        watch.look(filled(SMALL, lambda *_: [], every_ms=every_ms), T0, float(turn))
    named = [said.partition("to at least ")[2].partition(" ")[0] for said in warnings(caplog)]
    assert named == ["260", "850"]


def test_it_is_not_looked_at_more_than_once_a_second() -> None:
    watch, ring = RoomWatch(SMALL), Ring(SMALL)
    watch.look(ring, T0, 10.0)
    full = filled(SMALL, lambda *_: [])
    watch.look(full, T0, 10.5)
    assert watch.status() is None
    watch.look(full, T0, 11.0)
    assert watch.status() is not None


DAY = replace(GAME, reward=Reward({"won": 1.0}, window=hours(24)), training=Training())


def test_check_says_which_rate_a_buffer_carries_and_which_buffer_a_rate_needs() -> None:
    assert rate_carried(DAY) == pytest.approx(200_000 / 86_400)
    assert describe(DAY)["training"].endswith("room for 2.31 decisions a second")
    assert "each matures before it leaves; with some to spare it is 220,000" in rate_words(DAY, 2.0)
    assert rate_words(DAY, 1.0).endswith("each matures before it leaves")
    words = rate_words(DAY, 50.0)
    assert words.startswith(
        "at 50 decisions a second a buffer of 200,000 holds 67 min, and something is awaited of a "
        "decision for 1 day: NOTHING MATURES, so nothing can be learned."
    )
    assert "at least 5,400,000 (some 4.3 GiB of memory), or shorten the window" in words
    closing = replace(DAY, reward=replace(DAY.reward, closes_after=1))
    assert ": ONLY WHAT OUTCOMES CLOSE EARLY MATURES. Raise" in rate_words(closing, 50.0)


def test_of_episodes_the_timeout_counts_too() -> None:
    episodic = replace(DAY, problem=Episodic(timeout=hours(24)), agent=Agent("dqn"))
    assert rate_carried(episodic) == pytest.approx(rate_carried(DAY) / 2)


def _shelf() -> Application:
    return Application(
        name="shelf",
        observation=[Vector("x", length=30)],
        actions=Ranking(k=3, item=[Numeric("price", low=0, high=1)], most_items=20),
        reward=Reward({"won": 1.0}, window=seconds(2)),
        baseline=lambda context: [item["id"] for item in context["items"]][:3],
        agent=Agent("rank"),
    )


def _parts() -> Application:
    actions = Parts({"mode": Discrete("a", "b", "c"), "level": Continuous(low=0, high=9)})
    return Application(
        name="parts",
        observation=[Vector("x", length=30)],
        actions=actions,
        reward=Reward({"won": 1.0}, window=seconds(2)),
        baseline=lambda _: {"mode": "a", "level": [1.0]},
        agent=Agent("ppo"),
    )


@pytest.mark.parametrize(
    "application",
    [
        DAY,
        replace(DAY, observation=[Vector("x", length=300)]),
        replace(DAY, problem=Episodic(timeout=seconds(9)), agent=Agent("dqn")),
        _shelf(),
        _parts(),
    ],
    ids=["labels", "wide", "episodes", "ranking", "parts"],
)
def test_the_memory_that_is_named_is_that_of_the_rings_columns_and_what_lies_beside(
    application: Application,
) -> None:
    ring = Ring(application)
    ring.reserve()
    columns = sum(column.nbytes for column in vars(ring).values() if isinstance(column, np.ndarray))
    assert bytes_each(application) - BESIDE_COLUMNS == pytest.approx(
        columns / ring.allocated, abs=8
    )
