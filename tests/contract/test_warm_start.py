"""History → a trained agent → a home → a learner that goes on from there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bakehouse_learner.artifacts.warm_start import FILE, REFUSED, leave_warm_start, warm_start_of
from bakehouse_learner.learning import Learning
from bakehouse_learner.offline.history.history import History, read_history
from bakehouse_learner.offline.training.train_on_history import Progress, Trained, train_on_history
from bakehouse_schemas.application.application import Application, seconds
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.errors import InvalidHistory
from bakehouse_schemas.policy.bundle import read_manifest
from tests.learner_fakes import GAME, LinearAgent, Play, loop_of
from tests.replay_rows import T0, Table, decision, outcome


def log_of_a_game(folder: Path, *, rows: int = 1_500, wins_right: bool = True) -> Path:
    """A studio's log: a coin chose; going right wins above one half, left below."""
    rng = np.random.default_rng(0)
    x = rng.random(rows)
    right = rng.random(rows) < 0.5
    won = ((x > 0.5) == right) if wins_right else ~right
    columns = {
        "x": x,
        "action": ["right" if one else "left" for one in right],
        "won": won,
        "propensity": [0.5] * rows,
    }
    pq.write_table(pa.table(columns), folder / "log.parquet")
    return folder / "log.parquet"


def trained(application: Application, source: Path, **options: Any) -> tuple[History, Trained]:
    history = read_history(application, source)
    return history, train_on_history(history, LinearAgent, **{"held_out": 0.2} | options)


def left_in(home: Path, application: Application, source: Path) -> Trained:
    history, made = trained(application, source)
    state = warm_start_of(made.learning, history.arrivals, application, timed=history.timed)
    leave_warm_start(home / "learner" / application.name, state)
    return made


def weights(learning: Learning) -> np.ndarray:
    assert learning.agent is not None
    return np.array(learning.agent.state()["weight"])


def goes_right(learning: Learning) -> list[bool]:
    """Whether the newest candidate goes right at 0.1 and at 0.9."""
    assert learning.candidate is not None
    seen = np.array([[0.1], [0.9]], np.float32)
    chosen = learning.candidate.distribution(seen, np.ones((2, 2), bool))
    return [bool(one) for one in chosen[:, 1] > 0.5]


def test_history_teaches_what_it_shows(tmp_path: Path) -> None:
    told: list[Progress] = []
    _, made = trained(GAME, log_of_a_game(tmp_path), steps=400, on_progress=told.append)
    assert goes_right(made.learning) == [False, True]
    assert made.trained_on == 1_200
    assert made.minibatches == told[-1].minibatches == told[-1].of == 400
    assert told[0].seconds_left > 0 and told[-1].seconds_left == 0
    assert not made.candidate.report.publish


def test_the_same_history_makes_the_same_agent(tmp_path: Path) -> None:
    source = log_of_a_game(tmp_path)
    first, again = (trained(GAME, source)[1].learning for _ in range(2))
    np.testing.assert_array_equal(weights(first), weights(again))


def test_a_learner_begins_with_what_was_left_in_its_home(tmp_path: Path) -> None:
    made = left_in(tmp_path, GAME, log_of_a_game(tmp_path))
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    learning = loop.learning
    np.testing.assert_array_equal(weights(learning), weights(made.learning))
    assert learning.lineage == made.learning.lineage
    assert learning.ring.size == 1_500
    assert (learning.version, learning.deployment.current.number, play.bus.pointers) == (0, 0, [])
    assert not (tmp_path / "learner" / "game" / FILE).exists()
    resumed = play.loop()  # from the checkpoint, which now holds it all
    resumed.start()
    np.testing.assert_array_equal(weights(resumed.learning), weights(made.learning))
    assert resumed.learning.ring.size == 1_500


def test_players_get_it_only_once_their_own_decisions_have_shown_it(tmp_path: Path) -> None:
    left_in(tmp_path, GAME, log_of_a_game(tmp_path))
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    play.second(loop)
    assert loop.learning.version == 1
    assert play.bus.pointers == []
    assert loop.learning.evidence is not None
    assert loop.learning.evidence.evaluation.difference.n == 0
    while not play.bus.pointers:
        play.second(loop)
        assert play.clock.s < 60, loop.status()["gate"]
    gate = read_manifest(Path(str(play.bus.pointers[0].uri))).gate
    assert 0 < gate["evidence"]["n"] <= 60 * play.clock.s  # all of them made after the start
    assert goes_right(loop.learning) == [False, True]


def test_a_policy_that_answers_goes_on_until_the_newcomer_has_proved_itself(
    tmp_path: Path,
) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    while not play.bus.pointers:
        play.second(loop)
    answering = play.bus.pointers[-1].version
    loop.close()
    left_in(tmp_path, GAME, log_of_a_game(tmp_path))
    resumed = play.loop()
    resumed.start()
    learning = resumed.learning
    assert (learning.deployment.current.number, learning.deployment.anchor.number) == (
        answering,
        answering,
    )
    assert learning.deployment.proving
    assert learning.ring.size == 1_500 + loop.learning.ring.size  # the table's rows are in as well
    published = len(play.bus.pointers)
    play.second(resumed)
    assert learning.version > answering
    assert len(play.bus.pointers) == published


def test_what_was_left_for_another_contract_is_set_aside(tmp_path: Path) -> None:
    left_in(tmp_path, GAME, log_of_a_game(tmp_path))
    other = replace(GAME, observation=[*GAME.observation, Numeric("y", default=0.0)])
    play = Play(tmp_path, application=other)
    loop = play.loop()
    loop.start()
    assert loop.learning.ring.size == 0
    assert not (tmp_path / "learner" / "game" / FILE).exists()
    assert (tmp_path / "learner" / "game" / REFUSED).exists()


def test_a_log_without_times_does_not_teach_that_outcomes_come_at_once(tmp_path: Path) -> None:
    left_in(tmp_path, GAME, log_of_a_game(tmp_path))
    loop = Play(tmp_path).loop()
    loop.start()
    assert loop.learning.imputed.remaining.matured == 0
    history, made = trained(GAME, log_of_a_game(tmp_path))
    timed = warm_start_of(made.learning, history.arrivals, GAME, timed=True)
    assert int(timed["remaining"]["next"]) == 1_200


def replay(home: Path, rows: int = 400) -> None:
    """Going right brings gold, going left makes friends."""
    table, rng = Table(home / "tables"), np.random.default_rng(0)
    made = []
    for at in range(rows):
        action = ("left", "right")[int(rng.integers(2))]
        one = decision(GAME, {"x": float(rng.random())}, action, at_ms=T0 + 10 * at)
        made += [one, outcome(one, "gold" if action == "right" else "friend", after_ms=100)]
    table.append(made)


def test_a_changed_reward_is_learned_from_the_same_table(tmp_path: Path) -> None:
    replay(tmp_path)
    for weights_, right in (({"gold": 1.0}, True), ({"friend": 1.0}, False)):
        application = replace(GAME, reward=Reward(weights_, window=seconds(2)))
        _, made = trained(application, tmp_path)
        assert goes_right(made.learning) == [right, right]


def test_a_checkpoint_of_another_reward_is_left_and_the_table_learned_from_anew(
    tmp_path: Path,
) -> None:
    replay(tmp_path)
    play = Play(tmp_path, application=replace(GAME, reward=Reward({"gold": 1.0}, seconds(2))))
    play.bus.now_ms = T0 + 60_000
    loop = play.loop()
    loop.start()
    loop.turn()
    loop.close()
    ring = loop.learning.ring
    assert ring.reward[: ring.size].mean() == pytest.approx(0.5, abs=0.1)
    dearer = replace(GAME, reward=Reward({"gold": 10.0}, seconds(2)))
    changed = loop_of(dearer, tmp_path, play.bus, play.clock)
    changed.start()
    ring = changed.learning.ring
    assert ring.reward[: ring.size].mean() == pytest.approx(5.0, abs=1.0)
    assert changed.learning.trainings == 0


def test_rules_of_reward_are_told_apart_and_the_same_rule_is_the_same() -> None:
    def doubled(outcomes: Any) -> float:
        return 2.0 * len(outcomes)

    def tripled(outcomes: Any) -> float:
        return 3.0 * len(outcomes)

    def inside(outcomes: Any) -> float:
        return sum(2.0 for _ in outcomes)

    def inside_more(outcomes: Any) -> float:
        return sum(3.0 for _ in outcomes)

    rules = [
        Reward(inside, window=seconds(2)),
        Reward(inside_more, window=seconds(2)),
        Reward({"won": 1.0}, window=seconds(2)),
        Reward({"won": 2.0}, window=seconds(2)),
        Reward({"won": 1.0}, window=seconds(3)),
        Reward({"won": 1.0}, window=seconds(2), default=1.0),
        Reward({"won": 1.0}, window=seconds(2), late="drop"),
        Reward({"won": 1.0}, window=seconds(2), activation=True),
        Reward(doubled, window=seconds(2)),
        Reward(tripled, window=seconds(2)),
    ]
    assert len({rule.fingerprint for rule in rules}) == len(rules)
    again = Reward({"won": 1.0}, window=seconds(2))
    assert again.fingerprint == rules[2].fingerprint


def test_a_history_of_which_nothing_is_left_to_train_on_is_refused(tmp_path: Path) -> None:
    at_once = pq.read_table(log_of_a_game(tmp_path, rows=50))
    at_once = at_once.append_column("decided_at", pa.array([T0] * 50))
    pq.write_table(at_once, tmp_path / "log.parquet")
    with pytest.raises(InvalidHistory, match="none is left to train on when 20% are held out"):
        trained(GAME, tmp_path / "log.parquet")
    unscaled = replace(GAME, observation=[Numeric("x")])
    with pytest.raises(InvalidHistory, match="too few to scale by"):
        trained(unscaled, log_of_a_game(tmp_path, rows=50))
