"""A learner without TensorFlow and without Kafka: an agent in NumPy, a bus in memory, a clock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from learner.agents.adapter import Exported, Setup
from learner.batch import Batch, Rows
from learner.loop import ApplicationLoop
from schemas.application import Application
from schemas.events import Control, PolicyPointer
from schemas.policy import Head
from schemas.settings import Settings
from tests.replay_rows import T0


class LinearAgent:
    """Predicts each action's reward linearly; one step of plain gradient descent a minibatch."""

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
        self.said: Control | None = None

    def stream_time_ms(self, replay_version: int) -> int:
        return self.now_ms

    def replay_version(self) -> int:
        return -1

    def control(self, application: str) -> Control | None:
        return self.said

    def pointer(self, application: str) -> PolicyPointer | None:
        return self.pointers[-1] if self.pointers else None

    def publish(self, pointer: PolicyPointer) -> None:
        self.pointers.append(pointer)

    def report(self, fields: Mapping[str, Any]) -> None:
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
    application: Application, home: Path, bus: MemoryBus, clock: Clock, build: Any = LinearAgent
) -> ApplicationLoop:
    return ApplicationLoop(
        application,
        Settings(home=home, policies_kept=5),
        bus,
        build,
        clock=clock,
        wall_ms=clock.wall_ms,
    )
