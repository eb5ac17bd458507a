"""Players of a game whose contract changes between two lives of its learner, or while servers of
both contracts answer; on a real Delta table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bakehouse_learner.gate.policy_version import Version
from bakehouse_learner.online.loop import ApplicationLoop
from bakehouse_schemas.application.application import (
    Application,
    Discrete,
    EpsilonGreedy,
    Training,
    seconds,
)
from bakehouse_schemas.application.observation import Boolean, Categorical, Numeric
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.contracts.known import note_contracts
from bakehouse_schemas.execution.propensity import executed_distribution
from tests.learner_fakes import Clock, LinearAgent, MemoryBus, loop_of
from tests.replay_rows import Table, decision, outcome

COUNTRIES = ("NL", "BE", "DE", "FR")
LEVEL, COUNTRY = Numeric("level", low=0, high=120), Categorical("country", buckets=8)
BEFORE = Application(
    name="game",
    observation=[LEVEL, COUNTRY],
    actions=Discrete("left", "right", "stay"),
    reward=Reward({"won": 1.0}, window=seconds(2), closes_after=1),
    baseline=lambda context: "left",
    exploration=EpsilonGreedy(0.3, start=0.9, decay=300),
    training=Training(every=seconds(0.5), buffer=2_000, batch=32, steps=8),
)
CHANGES: dict[str, Application] = {
    "a bound": replace(BEFORE, observation=[Numeric("level", low=0, high=180), COUNTRY]),
    "buckets": replace(BEFORE, observation=[LEVEL, Categorical("country", buckets=16)]),
    "a feature": replace(BEFORE, observation=[LEVEL, Boolean("tired", default=False), COUNTRY]),
    "a label more": replace(BEFORE, actions=Discrete("left", "right", "jump", "stay")),
    "a label less": replace(BEFORE, actions=Discrete("right", "left")),
}


class Server(NamedTuple):
    """Who answers: an application, and the policy in its slot."""

    application: Application
    version: Version


class Crossing:
    """A home, and players who win when they go right above level 60, left below it."""

    def __init__(self, home: Path, *, seed: int = 0) -> None:
        self.home = home
        self.table = Table(home / "tables")
        self.clock, self.bus = Clock(), MemoryBus()
        self.rng = np.random.default_rng(seed)
        # chances to win of who jumps, who stays, and who goes where it is right to go
        self.jumps, self.stays, self.wins = 0.95, 0.0, 1.0

    def live(self, application: Application, build: Any = LinearAgent) -> ApplicationLoop:
        """A life of the learner begins."""
        note_contracts(self.home, [application])
        loop = loop_of(application, self.home, self.bus, self.clock, build)
        loop.start()
        return loop

    def second(
        self, loop: ApplicationLoop, *, players: int = 60, servers: Sequence[Server] = ()
    ) -> list[str]:
        """One second passes; the labels that were answered by policies above version 0.

        Args:
            servers: that answer in turn; none: one of the learner's contract.
        """
        answering = servers or (Server(loop.application, loop.learning.deployment.current),)
        began, rows, answered = self.clock.wall_ms(), [], []
        for at in range(players):
            server = answering[at % len(answering)]
            made = self.decide(server, loop.learning.decisions, at_ms=began + at)
            rows.append(made)
            if self.rng.random() < self.chance(json.loads(made["context"]), made["action"]):
                rows.append(outcome(made, "won", after_ms=100))
            if made["policy_version"]:
                answered.append(json.loads(made["action"]))
        self.table.append(rows)
        self.clock.s += 1.0
        self.bus.now_ms = self.clock.wall_ms() - 500
        loop.turn()
        return answered

    def chance(self, context: dict[str, Any], action: str) -> float:
        """With which a player wins."""
        label = json.loads(action)
        if label in ("jump", "stay"):
            return self.jumps if label == "jump" else self.stays
        return self.wins if (label == "right") == (context["level"] > 60) else 0.0

    def decide(self, server: Server, decisions: int, *, at_ms: int) -> dict[str, Any]:
        """A row, as a server of that contract would write it."""
        application, version = server
        labels = application.actions.choices
        everything = np.ones(len(labels), bool)
        context = {
            "level": float(self.rng.uniform(0, 120)),
            "country": COUNTRIES[int(self.rng.integers(len(COUNTRIES)))],
        }
        own = np.array([float(label == "left") for label in labels])
        if version.policy is not None:
            seen = application.encoder.encode(context)[None]
            own = version.policy.distribution(seen, everything[None])[0]
        exploration = application.exploration.after(decisions)
        executed = executed_distribution(
            own, everything, epsilon=exploration.epsilon, floor=exploration.floor
        )
        at = int(self.rng.choice(len(labels), p=executed))
        return decision(
            application,
            context,
            labels[at],
            at_ms=at_ms,
            propensity=float(executed[at]),
            action_probabilities=json.dumps(dict(zip(labels, executed.tolist(), strict=True))),
            exploration=json.dumps(exploration.logged()),
            policy_version=version.number,
            subject_id=f"player-{int(self.rng.integers(500))}",
        )


def answers(application: Application, version: Version) -> list[str]:
    """What a policy answers at 25 levels, without exploration."""
    assert version.policy is not None
    contexts = [{"level": level, "country": "NL"} for level in np.linspace(0.0, 120.0, 25).tolist()]
    seen = np.array([application.encoder.encode(context) for context in contexts])
    everything = np.ones((len(seen), len(application.actions.choices)), bool)
    best = version.policy.distribution(seen, everything).argmax(axis=1)
    return [application.actions.choices[at] for at in best]
