"""What the learner promises when it is killed, misled, or worse than it looked."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import cycle, groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.errors import KafkaTimeoutError

from bakehouse_learner.artifacts.checkpoint import read_checkpoint, write_checkpoint
from bakehouse_learner.learning import Learning
from bakehouse_learner.online.kafka_bus import KafkaBus
from bakehouse_learner.online.loop import ApplicationLoop
from bakehouse_learner.replay.rebuild import rebuild
from bakehouse_learner.replay.row_decoder import RowDecoder
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.batch import Batch
from bakehouse_learner.training.plan import Plan, PlanLog
from bakehouse_schemas.application.application import (
    Agent,
    Application,
    Discrete,
    Training,
    seconds,
)
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.events.events import Control, PolicyPointer
from bakehouse_schemas.policy.bundle import load_bundle, read_manifest
from bakehouse_schemas.process.failpoints import VARIABLE, arm, is_armed
from bakehouse_schemas.process.settings import Settings
from tests.faults.learner_child import CHANGES_AT
from tests.learner_fakes import GAME, LinearAgent, Play, arrays_of, same
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
    states = [
        read_checkpoint(each.home / "learner" / "game" / "checkpoint.npz")
        for each in (killed, whole)
    ]
    for state in states:
        assert state is not None
        # figures for people hang on when they were looked at; yet they count nothing twice
        counted = state.pop("insight")["json"]
        assert counted["decisions"] <= state["learning"]["ring"]["json"]["head"]
    first, second = map(_flat, states)
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


@pytest.mark.full
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


@pytest.mark.full
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


@pytest.mark.full
@pytest.mark.parametrize(
    ("game", "words"),
    [
        ("canary", "widened to 100%"),
        ("apprentice", "leaves version 0: match with the baseline"),
        ("compressed", "published"),
    ],
)
def test_steps_of_a_rollout_and_a_compression_are_taken_alike_by_a_learner_that_is_killed(
    tmp_path: Path, game: str, words: str
) -> None:
    whole = Child(tmp_path / "whole", steps=30, agent=game)
    killed = Child(tmp_path / "killed", steps=30, agent=game)
    beside = whole.start()
    killed.killed_at("learner.training.inside", 9)
    killed.killed_at("learner.pointer.sent", 2)
    assert killed.live() == 0
    assert whole.end_of(beside) == 0
    same_end(killed, whole)
    manifests = [read_manifest(folder) for _, folder in sorted(whole.bundles().items())]
    shares = sorted({manifest.canary for manifest in manifests})
    assert shares == ([1.0] if game == "compressed" else [0.3, 0.6, 1.0])
    assert all(manifest.apprentice == (game == "apprentice") for manifest in manifests)
    said = [manifest.gate["reason"] for manifest in manifests]
    assert any(words in reason for reason in said)


@pytest.mark.full
def test_a_learner_killed_around_a_change_of_the_contract_makes_the_same_policies(
    tmp_path: Path,
) -> None:
    whole = Child(tmp_path / "whole", steps=40, agent="changing")
    killed = Child(tmp_path / "killed", steps=40, agent="changing")
    beside = whole.start()
    killed.killed_at("learner.training.inside", 9)
    killed.killed_at("learner.checkpoint.before_rename", 2)  # of the contract before, at its end
    # then the first of the new contract: before it is there, and after; and in what follows
    for point, visit in (
        ("learner.checkpoint.before_rename", 1),
        ("learner.checkpoint.before_rename", 2),
        ("learner.checkpoint.before_rename", 1),
        ("learner.checkpoint.after_rename", 1),
        ("learner.plan.written", 1),
        ("learner.training.inside", 1),
        ("learner.training.inside", 3),
        ("learner.bundle.before_rename", 1),
        ("learner.pointer.sent", 2),
    ):
        killed.killed_at(point, visit)
    assert killed.live() == 0
    assert whole.end_of(beside) == 0
    same_end(killed, whole)
    contracts = {version: read_manifest(path).contract for version, path in whole.bundles().items()}
    before = [version for version, contract in contracts.items() if contract == GAME.contract]
    assert 0 < len(before) < len(contracts), "both contracts had policies"
    assert max(before) <= CHANGES_AT < min(set(contracts) - set(before))


def test_a_checkpoint_on_its_way_to_disk_is_not_touched_by_what_is_learned_meanwhile(
    tmp_path: Path,
) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    for _ in range(4):
        play.second(loop)
    taken = loop.learning.state()
    write_checkpoint(tmp_path / "then.npz", taken)
    for _ in range(4):
        play.second(loop)
    write_checkpoint(tmp_path / "later.npz", taken)
    then, later = (_flat(read_checkpoint(tmp_path / f"{name}.npz")) for name in ("then", "later"))
    for name, value in then.items():
        np.testing.assert_array_equal(value, later[name], err_msg=name)


def test_plans_stay_until_a_checkpoint_that_holds_them_is_on_disk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    folder = tmp_path / "learner" / "game"
    (folder / "checkpoint.new").mkdir()  # no file can be written there
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            play.second(loop)
            play.clock.s += 30.0  # a checkpoint is due every time
    assert "no checkpoint of version" in caplog.text
    assert [plan.version for plan in PlanLog(folder / "plan.jsonl").after(0)] == [1, 2, 3, 4, 5]
    (folder / "checkpoint.new").rmdir()
    resumed = play.loop()
    resumed.start()
    same(loop.learning, resumed.learning)


def test_a_bundle_that_was_half_written_is_gone_after_the_next_start(tmp_path: Path) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    while not play.bus.pointers:
        play.second(loop)
    half = loop.bundles.folder / ".17.4711"
    half.mkdir()
    (half / "arrays.npz").write_bytes(b"half")
    kept = loop.bundles.versions()
    play.loop().start()
    assert not half.exists()
    assert loop.bundles.versions() == kept


def test_a_pointer_that_kafka_refused_is_not_sent_again_after_a_newer_one(tmp_path: Path) -> None:
    class Promise:
        def add_errback(self, call: Callable[..., None], *given: Any) -> None:
            self.fail = lambda: call(*given, KafkaTimeoutError("not in time"))

    class Producer:
        def __init__(self) -> None:
            self.promises: list[Promise] = []

        def send(self, topic: str, value: bytes, *, key: bytes) -> Promise:
            self.promises.append(Promise())
            return self.promises[-1]

    bus, producer = KafkaBus(Settings(home=tmp_path), process="1"), Producer()
    bus._producer = producer  # type: ignore[assignment]  # a broker that takes its time
    for version in (5, 6):
        bus.publish(
            PolicyPointer(
                application="game", version=version, uri="u", sha256="0" * 64, published_at_ms=T0
            )
        )
    first, second = producer.promises
    first.fail()
    bus.retry()
    assert len(producer.promises) == 2, "version 5 would take the place of version 6"
    second.fail()
    bus.retry()
    assert len(producer.promises) == 3


def test_a_pointer_that_one_key_was_refused_for_is_sent_again_under_that_key(
    tmp_path: Path,
) -> None:
    class Producer:
        def __init__(self) -> None:
            self.keys: list[bytes] = []
            self.refuse: list[Callable[[], None]] = []

        def send(self, topic: str, value: bytes, *, key: bytes) -> Producer:
            self.keys.append(key)
            return self

        def add_errback(self, call: Callable[..., None], *given: Any) -> None:
            self.refuse.append(lambda: call(*given, KafkaTimeoutError("not in time")))

    contracts = {"game": GAME.contract}
    bus, producer = KafkaBus(Settings(home=tmp_path), process="1", contracts=contracts), Producer()
    bus._producer = producer  # type: ignore[assignment]  # a broker that takes its time
    own = f"game@{GAME.contract}".encode()
    for version in (5, 0):
        bus.publish(PolicyPointer(application="game", version=version, published_at_ms=T0))
    assert producer.keys == [own, b"game", own, b"game"]
    for refuse in producer.refuse:
        refuse()
    bus.retry()
    assert producer.keys[4:] == [own, b"game"], "version 0 under both, and version 5 no more"


# --- nothing counts twice

TWICE = Application(
    name="game",
    observation=[Numeric("x", low=0, high=2), Numeric("y", low=-1, high=1)],
    actions=Discrete("a", "b", "c"),
    reward=Reward({"won": 1.0, "paid": 0.25}, window=seconds(10)),
    baseline=lambda context: "a",
    agent=Agent("lin_ucb"),
    training=Training(buffer=200),
)


class History(NamedTuple):
    """Rows as they may arrive, and what is true of them."""

    batches: list[list[dict[str, Any]]]
    observations: dict[str, list[float]]  # by decision_id
    actions: dict[str, int]
    rewards: dict[str, float]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """A few decisions and outcomes: repeated, in any order, in any batches."""
    rows: list[dict[str, Any]] = []
    observations, actions, rewards = {}, {}, {}
    for at in range(draw(st.integers(1, 12))):
        x, y = draw(st.floats(0, 2, width=32)), draw(st.floats(-1, 1, width=32))
        action = draw(st.integers(0, 2))
        made = decision(TWICE, {"x": x, "y": y}, "abc"[action], at_ms=T0 + at)
        rows.append(made)
        reward = 0.0
        for name, worth in (("won", 1.0), ("paid", 0.25)):
            if draw(st.booleans()):
                rows.append(outcome(made, name, after_ms=draw(st.integers(1, 9_000))))
                reward += worth
        name = made["decision_id"]
        # [0, 2] and [−1, 1] are normalised to [−1, 1]
        observations[name], actions[name], rewards[name] = [x - 1.0, y], action, reward
    rows += draw(st.lists(st.sampled_from(rows), max_size=2 * len(rows)))
    rows = draw(st.permutations(rows))
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    batches = [rows[i:j] for i, j in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    return History(batches, observations, actions, rewards)


@cache
def _lin_ucb() -> tuple[TrainableAgent, dict[str, np.ndarray]]:
    from bakehouse_learner.agents import build_agent
    from bakehouse_learner.training.normaliser import static_normaliser

    normaliser = static_normaliser(TWICE.encoder.bounds())
    assert normaliser is not None
    agent = build_agent(Setup(TWICE, normaliser, 0))
    return agent, {name: value.copy() for name, value in agent.state().items()}


def _fresh_lin_ucb(setup: Setup) -> TrainableAgent:
    agent, beginning = _lin_ucb()  # made once; back to its beginning
    agent.restore(beginning)
    return agent


def _each_counts_once(learning: Learning, history: History) -> None:
    ring = learning.ring
    assert len(set(ring.ids)) == len(ring.ids) == ring.size == len(history.actions)
    plan = Plan(version=1, replay_version=0, stream_time_ms=T0 + 100_000, seed=0, at_ms=0)
    assert learning.train(plan) is not None
    agent = learning.agent
    assert agent is not None
    state = agent.state()
    for action in range(3):
        mine = [name for name, taken in history.actions.items() if taken == action]
        x = np.array([[*history.observations[name], 1.0] for name in mine]).reshape(-1, 3)
        reward = np.array([history.rewards[name] for name in mine])
        assert state["count"][action] == len(mine)
        np.testing.assert_allclose(state["covariance"][action], x.T @ x, atol=1e-6)
        np.testing.assert_allclose(state["vector"][action], reward @ x, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(histories(), st.integers(0, 4), st.booleans())
def test_no_decision_enters_twice_and_no_linear_statistic_counts_a_row_twice(
    history: History, resume_at: int, train_between: bool
) -> None:
    learning, decoder = Learning(TWICE, _fresh_lin_ucb), RowDecoder(TWICE)
    for at, rows in enumerate(history.batches):
        if at == resume_at:
            state = learning.state()
            learning = Learning(TWICE, _fresh_lin_ucb)
            learning.restore(state)
        if rows:
            learning.ingest(decoder.decode(arrow(rows)))
        if train_between and learning.ring.size:
            plan = Plan(version=1, replay_version=0, stream_time_ms=T0 + at, seed=0, at_ms=0)
            learning.train(plan)
    _each_counts_once(learning, history)


@settings(max_examples=20, deadline=None)
@given(history=histories(), read_before=st.integers(0, 5))
def test_a_ring_rebuilt_from_the_table_counts_every_row_once_as_well(
    tmp_path_factory: pytest.TempPathFactory, history: History, read_before: int
) -> None:
    table = Table(tmp_path_factory.mktemp("tables"))
    learning, decoder = Learning(TWICE, _fresh_lin_ucb), RowDecoder(TWICE)
    for at, rows in enumerate(batch for batch in history.batches if batch):
        table.append(rows)
        if at < read_before:
            learning.ingest(decoder.decode(arrow(rows)))
    learning.replace_ring(rebuild(str(table.path), TWICE, decoder).ring)
    for rows in history.batches:  # and all of it once more
        if rows:
            learning.ingest(decoder.decode(arrow(rows)))
    _each_counts_once(learning, history)


# --- nothing that is not finite reaches a bundle


def _finite_bundles(loop: ApplicationLoop) -> int:
    """Every bundle on disk is finite through and through; returns how many there are."""
    versions = loop.bundles.versions()
    for version in versions:
        folder = loop.bundles.folder / str(version)
        loaded = load_bundle(
            folder,
            application=loop.application.name,
            contract=loop.application.contract,
            sha256=None,
        )
        assert all(math.isfinite(loss) for loss in loaded.manifest.losses.values())
        with np.load(folder / "arrays.npz") as file:
            for name in file.files:
                assert np.all(np.isfinite(file[name])), f"{version}: {name}"
        context = np.linspace(0, 1, 50, dtype=np.float32)[:, None]
        assert np.all(np.isfinite(loaded.policy.scores(context)))
    return len(versions)


class Poisoned(LinearAgent):
    """What its next training does to it is set from outside."""

    poison: Callable[[LinearAgent], float] | None = None

    def train(self, batch: Batch) -> dict[str, float]:
        losses = super().train(batch)
        if self.poison is not None:
            losses["loss"] = self.poison(self)
        return losses


def _loss(value: float) -> Callable[[LinearAgent], float]:
    return lambda agent: value


def _weights(value: float) -> Callable[[LinearAgent], float]:
    def spoil(agent: LinearAgent) -> float:
        agent.weight[:] = value
        agent.bias[:] = value
        return 0.5

    return spoil


@pytest.mark.parametrize(
    ("poison", "rule"),
    [
        (_loss(math.nan), "refused: finite share of losses is 0, expected at least 1"),
        (_loss(math.inf), "refused: finite share of losses is 0, expected at least 1"),
        (_weights(math.nan), "refused: finite share of golden scores is 0, expected at least 1"),
        (_weights(-math.inf), "refused: finite share of golden scores is 0, expected at least 1"),
        # finite weights: x · 3e38 + 3e38 is beyond float32 where x > 0.13
        (_weights(3e38), "refused: finite share of golden scores is 0"),
    ],
    ids=["loss NaN", "loss inf", "weights NaN", "weights inf", "outputs inf"],
)
def test_a_training_that_leaves_the_reals_is_refused_with_the_reason_and_undone(
    tmp_path: Path, poison: Callable[[LinearAgent], float], rule: str
) -> None:
    play = Play(tmp_path)
    loop = play.loop(Poisoned)
    loop.start()
    while not play.bus.pointers:
        play.second(loop)
    agent = loop.learning.agent
    assert isinstance(agent, Poisoned)
    sound = arrays_of(loop.learning)
    agent.poison = poison
    for _ in range(3):
        before = len(play.bus.pointers)
        play.second(loop)
        assert loop.status()["gate"]["reason"].startswith(rule)
        assert len(play.bus.pointers) == before
        for name in ("weight", "bias"):
            np.testing.assert_array_equal(arrays_of(loop.learning)[name], sound[name])
    loop.checkpointer.now()
    resumed = play.loop(Poisoned)  # a life that begins now knows the same sound state
    resumed.start()
    assert resumed.learning.candidate is not None and loop.learning.candidate is not None
    contexts = np.linspace(0, 1, 9, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(
        resumed.learning.candidate.scores(contexts), loop.learning.candidate.scores(contexts)
    )
    agent.poison = None
    play.second(loop)
    assert play.bus.pointers[-1].version == loop.learning.version
    assert _finite_bundles(loop) >= 2


BEYOND = (1e308, -1e308, 1e38, -1e38)  # float64 that a float32 policy cannot add up
EXTREME = (9e29, -9e29)  # the largest that is learned from


@pytest.mark.parametrize("name", ["neural_greedy", "dqn", "lin_ucb", "lin_ts", "c51"])
def test_hostile_rewards_reach_no_bundle_and_do_not_end_the_learning(
    tmp_path: Path, name: str
) -> None:
    from bakehouse_learner.agents import build_agent

    hidden: dict[str, Any] = {} if name in ("lin_ucb", "lin_ts") else {"hidden": [8]}
    play = Play(tmp_path, application=replace(GAME, agent=Agent(name, **hidden)))
    loop = play.loop(build_agent)
    loop.start()
    while not play.bus.pointers:
        play.second(loop)
        assert play.clock.s < 120, loop.status()["gate"]

    def one_in_ten(values: tuple[float, ...]) -> Callable[[], float | None]:
        said: Iterator[float] = cycle(values)
        count = iter(range(1_000_000))
        return lambda: None if next(count) % 10 else next(said)

    for values in (*((value,) for value in BEYOND), BEYOND):
        play.value = one_in_ten(values)
        trained, published = loop.learning.trainings, len(play.bus.pointers)
        for _ in range(3):
            play.second(loop)
            assert loop.status()["problem"] is None
        assert loop.learning.trainings == trained + 3
        assert len(play.bus.pointers) > published, loop.status()["gate"]
    assert loop.status()["unusable"] > 10
    play.value = one_in_ten(EXTREME)
    for _ in range(5):
        play.second(loop)
        assert loop.status()["problem"] is None
    play.value = lambda: None
    for _ in range(5):
        play.second(loop)
        assert loop.status()["problem"] is None
    assert _finite_bundles(loop) >= 1


# --- what turns out worse is taken back, and stays so


def test_a_policy_worse_in_production_is_taken_back_and_the_reason_survives_kill_9(
    tmp_path: Path,
) -> None:
    whole = Child(tmp_path / "whole", steps=36, agent="turning")
    beside = whole.start()
    killed = Child(tmp_path / "killed", steps=36, agent="turning")
    killed.killed_at("learner.training.inside", 26)  # the training that shows it
    killed.killed_at("learner.checkpoint.before_rename", 1)  # shown again, and not yet kept
    killed.killed_at("learner.plan.written", 3)  # frozen
    killed.killed_at("learner.training.inside", 1)
    assert killed.live() == 0
    assert whole.end_of(beside) == 0
    same_end(killed, whole)
    status = json.loads((killed.home / "status.json").read_text())
    freeze = status["last_freeze"]
    anchor = freeze["anchor"]
    assert status["frozen"] and status["candidate"] == 36
    assert status["version"] == status["anchor"] == anchor == killed.pointers()[-1]
    assert f"version {freeze['current']} is worse than version {anchor}" in freeze["reason"]
    (rule,) = [rule for rule in freeze["rules"] if not rule["passed"] and "upper" in rule["name"]]
    assert rule["number"] < rule["threshold"] == 0.0
    assert max(killed.bundles()) < freeze["candidate"], "a candidate was published while frozen"
    assert status["gate"]["reason"].startswith(f"frozen: version {anchor} goes on answering")


# --- a person's word


def test_under_a_rollback_learning_goes_on_from_what_the_pinned_policy_meets(
    tmp_path: Path,
) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    while len(play.bus.pointers) < 2:
        play.second(loop)
    play.answering = loop.learning.deployment.current  # serving says so, whatever comes
    pinned = play.answering.number
    play.bus.said = Control(application="game", pinned_version=pinned, by="ops", at_ms=1)
    evaluated = loop.status()["gate"]["evidence"]["n"]
    for _ in range(30):  # enough to prune, with five kept
        play.second(loop)
    learning = loop.learning
    assert learning.version == pinned + 30
    assert (learning.ring.policy_version[: learning.ring.size] == pinned).any()
    status = loop.status()
    assert status["gate"]["evidence"]["n"] > evaluated or learning.deployment.anchor.number > pinned
    assert play.bus.pointers[-1].version == learning.version, "ready for the release"
    assert pinned in loop.bundles.versions(), "people are served from it"
    answers = learning.deployment.current.policy
    assert answers is not None
    seen = np.array([[0.1], [0.9]], np.float32)
    assert answers.distribution(seen, np.ones((2, 2), bool)).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_nothing_is_published_over_a_freeze_that_came_while_a_candidate_was_made(
    tmp_path: Path,
) -> None:
    play = Play(tmp_path)
    loop = play.loop(Poisoned)
    loop.start()
    while len(play.bus.pointers) < 2:
        play.second(loop)
    agent = loop.learning.agent
    assert isinstance(agent, Poisoned)

    def said_meanwhile(agent: LinearAgent) -> float:
        play.bus.said = Control(application="game", pinned_version=pinned, frozen=True, at_ms=1)
        return 0.1

    pinned = play.bus.pointers[0].version
    agent.poison = said_meanwhile
    before = len(play.bus.pointers)
    play.second(loop)
    # this one was begun before; serving, where the word was said, keeps it out
    assert len(play.bus.pointers) <= before + 1
    before, version = len(play.bus.pointers), loop.learning.version
    for _ in range(5):
        play.second(loop)
    resumed = play.loop(Poisoned)
    resumed.start()
    play.second(resumed)
    assert len(play.bus.pointers) == before
    assert resumed.learning.version == version + 6, "it goes on learning"
    assert read_manifest(resumed.bundles.folder / str(play.bus.pointers[-1].version))
