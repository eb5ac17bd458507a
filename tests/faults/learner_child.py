"""A learner in a process of its own, which a test may kill at any moment and start again.

`python -m tests.faults.learner_child HOME STEPS [AGENT]`

Each step is eight seconds of a small game: one commit to the table, and one turn of the learner.
What players meet depends on the step and on the policy that answers then. Where it was, a process
finds out from the table and from the learner, so every commit gets exactly one training, however
often the process is killed. The clock is the step's; pointers are kept in `HOME/pointers.jsonl`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bakehouse_learner.online.loop import ApplicationLoop
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.batch import Batch
from bakehouse_schemas.application.application import (
    Agent,
    Application,
    Discrete,
    EpsilonGreedy,
    Rollout,
    Training,
    seconds,
)
from bakehouse_schemas.application.compression import Compression
from bakehouse_schemas.application.observation import Numeric, Vector
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.contracts.known import note_contracts
from bakehouse_schemas.events.events import PolicyPointer
from bakehouse_schemas.process.settings import Settings
from tests.learner_fakes import Clock, LinearAgent, MemoryBus
from tests.replay_rows import T0, Table, decision, outcome

STEP_MS = 8_000
PLAYERS = 60  # decisions a step
TURNS_AT = 24  # training from which on `Turning` is the worst there is

GAME = Application(
    name="game",
    observation=[Numeric("x", low=0, high=1)],
    actions=Discrete("left", "right"),
    reward=Reward({"won": 1.0}, window=seconds(12), closes_after=1),
    baseline=lambda context: "left",
    exploration=EpsilonGreedy(0.5),
    training=Training(every=seconds(0.5), buffer=1_500, batch=32, steps=8),
)


class Turning(LinearAgent):
    """Learns as it should, and from its 24th training on chooses the worst action there is."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.trained = np.zeros((), np.int64)

    def train(self, batch: Batch) -> dict[str, float]:
        self.trained = self.trained + 1
        losses = super().train(batch)
        if self.trained >= TURNS_AT:
            self.weight[:] = [[5.0, -5.0]]
            self.bias[:] = [-2.5, 2.5]
        return losses

    def state(self) -> Mapping[str, np.ndarray]:
        return {**super().state(), "trained": self.trained}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        super().restore(state)
        self.trained = np.array(state["trained"])


class FileBus(MemoryBus):
    """A bus whose pointers outlive the process, as those in Kafka do."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        if path.exists():
            self.pointers = [
                PolicyPointer.model_validate_json(line) for line in path.read_text().splitlines()
            ]

    def publish(self, pointer: PolicyPointer) -> None:
        with self._path.open("a") as file:
            file.write(pointer.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
        super().publish(pointer)


STEPWISE = Rollout(canary=[0.3, 0.6, 1.0], decisions_a_step=40)
VARIANTS = {
    "linear": GAME,
    "turning": GAME,
    "changing": GAME,
    "canary": replace(GAME, rollout=STEPWISE),
    "apprentice": replace(GAME, mode="apprentice", rollout=STEPWISE),
    "compressed": replace(
        GAME,
        observation=[*GAME.observation, Vector("mood", length=3, low=0, high=1, default=[0, 1, 0])],
        agent=Agent("neural_greedy", hidden=[8]),
        compression=Compression(size=2, hidden=4, rows=100, steps=30),
    ),
}


CHANGES_AT = 18  # step before which the application of `changing` becomes another
CHANGED = replace(
    GAME,
    observation=[Numeric("x", low=0, high=2)],
    actions=Discrete("left", "right", "jump"),
)


def game_with(agent: str) -> Application:
    """The game, learned by an agent of that name, or in one of the ways above."""
    if agent in VARIANTS:
        return VARIANTS[agent]
    return replace(GAME, agent=Agent(agent, **({"hidden": [8]} if "neural" in agent else {})))


def builder(agent: str) -> Callable[[Setup], TrainableAgent]:
    """What makes that agent; TensorFlow is imported only where it is needed."""
    if agent in ("linear", "canary", "apprentice", "changing"):
        return LinearAgent
    if agent == "turning":
        return Turning
    from bakehouse_learner.agents import build_agent

    return build_agent


def commit(home: Path, table: Table, step: int, loop: ApplicationLoop) -> None:
    """What happens in one step: players who win right of one half by going right, else left.

    A third of the outcomes comes with the commit after; those are kept in a file until then.
    """
    rng = np.random.default_rng([7, step])
    application, current = loop.application, loop.learning.deployment.current
    labels = application.actions.choices
    players = PLAYERS if application.compression is None else 2 * PLAYERS
    rows, late = [], []
    for at in range(players):
        x = float(rng.random())
        own, share = np.eye(len(labels))[0], 0.5
        policy = current.policy if at < current.canary * players else None
        if policy is not None:
            seen = application.encoder.encode({"x": x})[None]
            own = policy.distribution(seen, np.ones((1, len(labels)), bool))[0]
        elif application.mode == "apprentice":
            share = 0.0
        cohort = "policy" if policy is None or current.canary == 1 else "canary"
        chances = (1 - share) * own + share / len(labels)
        above = np.flatnonzero(rng.random() < np.cumsum(chances[1:]))
        action = int(above[0]) + 1 if len(above) else 0
        at_ms = T0 + step * STEP_MS + 6_000 // players * at
        number = step * players + at
        made = decision(
            loop.application,
            {"x": x},
            labels[action],
            at_ms=at_ms,
            propensity=float(chances[action]),
            cohort=cohort if share else "fallback",
            policy_version=0 if policy is None else current.number,
            decision_id=_id(at_ms, number),
            positions=[_position(at_ms, "bakehouse.decisions.v1", number)],
        )
        rows.append(made)
        if (x > 0.5) == (action == 1) or labels[action] == "jump":
            after_ms = 9_000 if rng.random() < 1 / 3 else 500
            where = _position(at_ms + after_ms, "bakehouse.outcomes.v1", number)
            won = outcome(made, "won", after_ms=after_ms, positions=[where])
            (late if after_ms == 9_000 else rows).append(won)
    kept = home / "late"
    kept.mkdir(exist_ok=True)
    (kept / str(step)).write_text(json.dumps(late))
    before = json.loads((kept / str(step - 1)).read_text()) if step else []
    table.append(rows + before)


def _id(at_ms: int, number: int) -> str:
    return f"{at_ms >> 16:08x}-{at_ms & 0xFFFF:04x}-7000-8000-{number:012d}"


def _position(at_ms: int, topic: str, number: int) -> dict[str, Any]:
    return {"received_at_ms": at_ms, "topic": topic, "partition": 0, "offset": number}


def main(home: Path, steps: int, agent: str) -> None:
    """Play and learn up to that many steps, from wherever the last life ended."""
    changed = home / "changed"  # the learner of the contract before has ended
    if agent == "changing" and not changed.exists():
        live(home, min(steps, CHANGES_AT), game_with(agent), builder(agent))
        changed.touch()
    if agent != "changing" or steps > CHANGES_AT:
        application = CHANGED if agent == "changing" else game_with(agent)
        live(home, steps, application, builder(agent))


def live(
    home: Path,
    steps: int,
    application: Application,
    build: Callable[[Setup], TrainableAgent],
) -> None:
    """One life of a learner, up to that many steps of the game."""
    note_contracts(home, [application])
    table = Table(home / "tables")
    commits = len(list((table.path / "_delta_log").glob("*.json")))
    clock, bus = Clock(), FileBus(home / "pointers.jsonl")
    clock.s = commits * STEP_MS / 1000
    loop = ApplicationLoop(
        application,
        Settings(home=home, policies_kept=1_000),
        bus,
        build,
        clock=clock,
        wall_ms=clock.wall_ms,
    )
    loop.start()
    for step in range(loop.learning.version, steps):
        if step == commits:
            commit(home, table, step, loop)
            commits += 1
        clock.s = commits * STEP_MS / 1000
        bus.now_ms = clock.wall_ms() - 500
        loop.turn()
        status = loop.status()
        if status["problem"] or loop.learning.version != step + 1:
            raise RuntimeError(f"step {step} made no version {step + 1}: {status}")
    loop.close()
    (home / "status.json").write_text(json.dumps(loop.status()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "linear")
