"""Logs of worlds of which everything is known, as rows of the replay table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bakehouse_learner.offline.evaluation.target_policies import Target, distribution
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.replay.row_decoder import RowDecoder
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.exploration import NONE
from bakehouse_schemas.execution.propensity import draw_action, executed_distribution, one_hot
from bakehouse_schemas.worlds.share import Logged, world_values
from bakehouse_schemas.worlds.world import BanditWorld, EpisodicWorld, World
from tests.replay_rows import T0, arrow, decision, following, outcome

EPSILON = 0.5  # of the logging policy: version 0, the baseline with exploration
APART_MS = 20  # between two players


def played(
    world: World, application: Application, players: int, *, seed: int, epsilon: float = EPSILON
) -> list[dict[str, Any]]:
    """Rows of players that the baseline decided for, exploring; all closed at the end."""
    rng = np.random.default_rng(seed)
    log = _Log(application, rng, epsilon)
    for player in range(players):
        at_ms = T0 + APART_MS * player
        if isinstance(world, BanditWorld):
            context = world.context(rng)
            row, action = log.decide(context, at_ms)
            _happen(log, row, world.happenings(context, action, rng))
        else:
            _episode(log, world, at_ms, rng)
    late = T0 + APART_MS * players + 60_000
    log.decide(_some_context(world, rng), late)  # long after: whatever went before has closed
    return log.rows


def ring_of(application: Application, rows: Sequence[dict[str, Any]]) -> Ring:
    """The rows as the learner holds them, all that may be closed being closed."""
    ring = Ring(replace(application, training=replace(application.training, buffer=200_000)))
    ring.ingest(RowDecoder(application).decode(arrow(rows)))
    latest_ms = max(row["decided_at_ms"] for row in rows)
    ring.mature(latest_ms)
    ring.time_out(latest_ms)
    return ring


def truth(
    world: World, application: Application, rows: Sequence[dict[str, Any]], of: Target
) -> float:
    """What the target really earns in these contexts, without noise (`worlds.share`)."""
    ring = ring_of(application, rows)
    slots = ring.slots(ring.tail, ring.head)
    contexts = {row["decision_id"]: json.loads(row["context"]) for row in rows}
    decisions = [
        Logged(contexts[ring.ids[int(slot)]], probabilities, ring.eligible[slot], NONE)
        for slot, probabilities in zip(slots, distribution(of, ring, slots), strict=True)
    ]
    return world_values(world, application, decisions).policy


class _Log:
    def __init__(self, application: Application, rng: np.random.Generator, epsilon: float) -> None:
        self._application, self._rng, self._epsilon = application, rng, epsilon
        self.rows: list[dict[str, Any]] = []

    def decide(
        self, context: dict[str, Any], at_ms: int, previous: str | None = None
    ) -> tuple[dict[str, Any], str]:
        labels = self._application.actions.labels
        rules = labels.index(self._application.baseline_action(context))
        executed = executed_distribution(
            one_hot(rules, len(labels)),
            np.ones(len(labels), dtype=bool),
            epsilon=self._epsilon,
            floor=0.01,
        )
        at = draw_action(executed, self._rng.random())
        exploration = {"kind": "epsilon_greedy", "epsilon": self._epsilon, "floor": 0.01}
        row = decision(
            self._application,
            context,
            labels[at],
            at_ms=at_ms,
            propensity=float(executed[at]),
            previous=previous,
            exploration=json.dumps(exploration),
        )
        self.rows.append(row)
        return row, labels[at]


def _happen(log: _Log, row: dict[str, Any], happenings: Sequence[Any]) -> None:
    log.rows += [
        outcome(row, each.name, after_ms=round(each.after_s * 1000), value=each.value)
        for each in happenings
    ]


def _episode(log: _Log, world: EpisodicWorld, at_ms: int, rng: np.random.Generator) -> None:
    starts = world.start()
    state = list(starts)[rng.choice(len(starts), p=list(starts.values()))]
    before: dict[str, Any] | None = None
    while state is not None:
        previous = None if before is None else before["decision_id"]
        row, action = log.decide(world.context(state, rng), at_ms, previous)
        if before is not None:
            log.rows.append(following(before, row))
        ways = world.transitions(state, action)
        went = ways[rng.choice(len(ways), p=[way.probability for way in ways])]
        _happen(log, row, world.happenings(state, action, went, rng))
        if rng.random() < world.vanishing:
            return
        if went.next_state is None:
            log.rows.append(outcome(row, after_ms=900, kind="end"))
        state, before = went.next_state, row
        at_ms += 1_000


def _some_context(world: World, rng: np.random.Generator) -> dict[str, Any]:
    if isinstance(world, BanditWorld):
        return world.context(rng)
    return world.context(next(iter(world.start())), rng)
