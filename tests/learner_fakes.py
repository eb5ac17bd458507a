"""A learner without TensorFlow and without Kafka: an agent in NumPy, a bus in memory, a clock."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bakehouse_learner.gate.policy_version import Version
from bakehouse_learner.learning import Learning
from bakehouse_learner.online.loop import ApplicationLoop
from bakehouse_learner.training.agent import Exported, Setup
from bakehouse_learner.training.batch import Batch, Rows
from bakehouse_schemas.application.application import (
    Application,
    Discrete,
    EpsilonGreedy,
    Training,
    seconds,
)
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.events.events import Control, PolicyPointer
from bakehouse_schemas.policy.policy import Head
from bakehouse_schemas.process.settings import Settings
from tests.replay_rows import T0, Table, decision, outcome


class LinearAgent:
    """Predicts each action's reward linearly; one step of plain gradient descent a minibatch."""

    learns_from_minibatches = True
    prioritised = False
    row_errors = None
    learns_from_ring = False

    def __init__(self, setup: Setup) -> None:
        self._normaliser = setup.normaliser
        width, actions = setup.application.encoder.size, len(setup.application.actions)
        self.weight = np.zeros((width, actions), np.float32)
        self.bias = np.zeros(actions, np.float32)

    def train(self, batch: Batch) -> dict[str, float]:
        loss = 0.0
        for at in range(len(batch.reward)):
            x = self._normaliser.apply(batch.observation[at])
            rows = np.arange(len(x))
            error = (x @ self.weight + self.bias)[rows, batch.action[at]] - batch.reward[at]
            pull = np.zeros((len(x), len(self.bias)), np.float32)
            pull[rows, batch.action[at]] = error / len(x)
            self.weight -= 0.5 * (x.T @ pull)
            self.bias -= 0.5 * pull.sum(axis=0)
            loss += float(np.mean(error**2))
        return {"loss": loss / len(batch.reward)}

    def fit(self, rows: Rows) -> dict[str, float]:
        raise TypeError("minibatches only")

    def scores(self, observation: np.ndarray) -> np.ndarray:
        return np.asarray(self._normaliser.apply(observation) @ self.weight + self.bias)

    def export(self) -> Exported:
        return Exported(
            [{"op": "dense", "weight": "w0", "bias": "b0"}],
            Head(kind="argmax"),
            {"w0": self.weight.copy(), "b0": self.bias.copy(), **self._normaliser.arrays()},
        )

    def state(self) -> Mapping[str, np.ndarray]:
        return {"weight": self.weight, "bias": self.bias}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.weight, self.bias = (np.array(state[name]) for name in ("weight", "bias"))


class MemoryBus:
    """What the learner hears and says, in lists."""

    def __init__(self) -> None:
        self.now_ms = -1  # stream time
        self.pointers: list[PolicyPointer] = []
        self.contract = ""  # that is learned
        self._contracts: dict[int, tuple[PolicyPointer, str]] = {}  # of what was published
        self.said: Control | None = None

    def stream_time_ms(self, replay_version: int) -> int:
        return self.now_ms

    def replay_version(self) -> int:
        return -1

    def control(self, application: str) -> Control | None:
        return self.said

    def pointer(self, application: str, contract: str | None = None) -> PolicyPointer | None:
        for pointer in reversed(self.pointers):
            _, of = self._contracts.get(id(pointer), (pointer, contract))
            if contract is None or of == contract:
                return pointer
        return None

    def publish(self, pointer: PolicyPointer) -> None:
        self._contracts[id(pointer)] = pointer, self.contract
        self.pointers.append(pointer)

    def report(self, fields: Mapping[str, Any], *, about: str | None = None) -> None:
        pass

    def wait(self, seconds: float) -> None:
        pass


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s

    def wall_ms(self) -> int:
        return T0 + round(self.s * 1000)


def loop_of(
    application: Application,
    home: Path,
    bus: MemoryBus,
    clock: Clock,
    build: Any = LinearAgent,
    *,
    boot: str = "first",
    tracer: Any = None,
) -> ApplicationLoop:
    bus.contract = application.contract
    return ApplicationLoop(
        application,
        Settings(home=home, policies_kept=5),
        bus,
        build,
        clock=clock,
        wall_ms=clock.wall_ms,
        boot=boot,
        tracer=tracer,
    )


GAME = Application(
    name="game",
    observation=[Numeric("x", low=0, high=1)],
    actions=Discrete("left", "right"),
    reward=Reward({"won": 1.0}, window=seconds(2), closes_after=1),
    baseline=lambda context: "left",
    exploration=EpsilonGreedy(0.5),
    training=Training(every=seconds(0.5), buffer=2_000, batch=32, steps=8),
)


class Play:
    """Players who win when they go right where x is above one half, and left elsewhere.

    `better=False`: they always win on the left, so nothing beats the baseline.
    """

    def __init__(self, home: Path, *, application: Application = GAME) -> None:
        self.home = home
        self.application = application
        self.table = Table(home / "tables")
        self.clock = Clock()
        self.bus = MemoryBus()
        self.rng = np.random.default_rng(0)
        self.better = True
        self.value: Callable[[], float | None] = lambda: None  # of the next win
        self.answering: Version | None = None  # None: what the learner last published

    def loop(self, build: Any = LinearAgent, *, tracer: Any = None) -> ApplicationLoop:
        return loop_of(self.application, self.home, self.bus, self.clock, build, tracer=tracer)

    def second(self, loop: ApplicationLoop | None, *, players: int = 60) -> None:
        """One second passes: a commit, and a turn of the learner."""
        answering = self.answering or (loop.learning.deployment.current if loop else Version(0))
        version, policy = answering.number, answering.policy
        began = self.clock.wall_ms()
        rows = []
        for at in range(players):
            x = float(self.rng.random())
            own = np.array([1.0, 0.0])
            if policy is not None:
                own = policy.distribution(np.array([[x]], np.float32), np.ones((1, 2), bool))[0]
            chances = 0.5 * own + 0.25
            action = int(self.rng.random() < chances[1])
            made = decision(
                self.application,
                {"x": x},
                ("left", "right")[action],
                at_ms=began + at,
                propensity=float(chances[action]),
                policy_version=version,
            )
            rows.append(made)
            wins = (x > 0.5) == (action == 1) if self.better else action == 0
            if wins:
                rows.append(outcome(made, "won", after_ms=100, value=self.value()))
        self.table.append(rows)
        self.clock.s += 1.0
        self.bus.now_ms = self.clock.wall_ms() - 500
        if loop:
            loop.turn()


def arrays_of(learning: Learning) -> dict[str, np.ndarray]:
    """Everything that a policy is made from, and what it was judged by."""
    assert learning.agent is not None and learning.evidence is not None
    state = {name: np.array(value) for name, value in learning.agent.state().items()}
    evidence = learning.evidence.state()
    return state | {
        "evaluation": np.array(json.dumps(evidence["json"], sort_keys=True)),
        "current": np.array(learning.deployment.current.number),
        "anchor": np.array(learning.deployment.anchor.number),
        "version": np.array(learning.version),
    }


def same(one: Learning, two: Learning) -> None:
    first, second = arrays_of(one), arrays_of(two)
    for name, array in first.items():
        np.testing.assert_array_equal(second[name], array, err_msg=name)
