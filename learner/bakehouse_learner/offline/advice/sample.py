"""What advice is made from: decisions that are over, whoever or whatever made them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bakehouse_learner.offline.evaluation.policy_value import normaliser_of
from bakehouse_learner.offline.history.history import History
from bakehouse_learner.offline.history.layout import START_MS as NO_TIME_MS
from bakehouse_learner.offline.simulation.simulation import STEP_MS
from bakehouse_learner.offline.simulation.virtual_players import VirtualPlayers, version_zero
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.replay.row_decoder import Arrival
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.observation import Boolean, Categorical, Feature, Numeric
from bakehouse_schemas.worlds.world import EpisodicWorld, World

MOST = 20_000  # decisions: enough for every finding, and quick
SECOND_MS = 1_000
DAY_MS = 86_400_000


@dataclass
class Sample:
    """Decisions in a ring, matured; `slots` are those whose reward can be used, in order."""

    application: Application
    ring: Ring
    following: Mapping[str, str]  # decision_id → that of the same player's next decision
    contexts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by decision_id
    a_day: float | None = None  # decisions; None: not known
    timed: bool = True  # whether outcomes say when they happened
    refused: int = 0  # rows whose contexts cannot be encoded
    memory: bool | None = None  # False: a world whose players have none

    def __post_init__(self) -> None:
        ring = self.ring
        everything = ring.slots(ring.tail, ring.head)
        self.everything: np.ndarray = everything
        # up to the first that is still open: else quick rewards would be heard before slow ones
        still_open = np.flatnonzero(~ring.matured[everything])
        known = everything[: still_open[0]] if len(still_open) else everything
        self.slots: np.ndarray = known[ring.usable[known]]
        # drawn by chance with a known propensity: what causes can be told by
        self.drawn: np.ndarray = self.slots[ring.support[self.slots]]

    def observation(self, slots: np.ndarray) -> np.ndarray:
        """Normalised, float64 `[n, D]`."""
        scale = normaliser_of(self.ring, self.application)
        return np.asarray(scale.apply(self.ring.observation[slots]), dtype=np.float64)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Slots of drawn decisions, and of what the same player decided on next. int `[m]` each"""
        ring = self.ring
        first, second = [], []
        for slot in self.drawn.tolist():
            after = self.following.get(ring.ids[slot])
            at = None if after is None else ring.slot_of(after)
            if at is not None:
                first.append(slot)
                second.append(at)
        return np.array(first, dtype=np.int64), np.array(second, dtype=np.int64)

    def values(self, feature: Feature, slots: np.ndarray) -> list[Any] | None:
        """A feature's values, read from the observations; None of vectors and hashed texts."""
        start = 0
        for each in self.application.observation:
            if each.name == feature.name:
                break
            start += each.size
        columns = self.ring.observation[slots, start : start + feature.size]
        if isinstance(feature, Numeric):
            return [float(value) for value in columns[:, 0]]
        if isinstance(feature, Boolean):
            return [bool(value > 0.5) for value in columns[:, 0]]
        if isinstance(feature, Categorical) and feature.values:
            names = [*feature.values, "others"]
            return [names[at] for at in columns.argmax(axis=1).tolist()]
        return None


def of_history(history: History) -> Sample:
    """What was logged."""
    ring = history.ring()
    slots = ring.slots(ring.tail, ring.head)
    times = ring.received_at_ms[slots]
    span_ms = float(times.max() - times.min()) if len(times) else 0.0
    untimed = len(slots) > 0 and int(ring.decided_at_ms[slots].min()) == NO_TIME_MS
    return Sample(
        history.application,
        ring,
        _following(history.arrivals) or _next_of_the_same(history),
        contexts={name: json.loads(text) for name, text in history.contexts.items()},
        a_day=None if untimed or span_ms <= 0 else len(slots) * DAY_MS / span_ms,
        timed=history.timed,
        refused=history.refused,
    )


def of_world(application: Application, world: World, *, decisions: int, seed: int) -> Sample:
    """What players of the world do under version 0: the rules, and the exploration it begins with.

    Args:
        decisions: to be made, those of the holdout included.
    """
    online = replace(
        application,
        mode="online",
        training=replace(application.training, buffer=max(decisions, 100)),
    )
    players = VirtualPlayers(online, world, 100.0, np.random.default_rng(seed), 0)
    zero = version_zero(online)
    turn_ms = STEP_MS if isinstance(world, EpisodicWorld) else SECOND_MS
    contexts: list[Mapping[str, Any]] = []
    while players.decisions < decisions:
        made = players.play(players.now_ms + turn_ms, zero, most=decisions - players.decisions)
        contexts += [one.context for one in made]
    end_ms = players.now_ms + application.reward.window_ms + DAY_MS
    arrivals = players.rows(end_ms)
    ring = Ring(online)
    ring.ingest(arrivals)
    ring.mature(end_ms)
    ring.time_out(end_ms)
    return Sample(
        online,
        ring,
        _following(arrivals),
        contexts={str(at): context for at, context in enumerate(contexts)},
        memory=isinstance(world, EpisodicWorld),
    )


def _following(arrivals: Sequence[Arrival]) -> dict[str, str]:
    """Whom the game said to come next, whatever the application says of its problem."""
    return {
        row.decision_id: outcome.next_decision_id
        for row in arrivals
        for outcome in row.known.outcomes
        if outcome.kind == "next" and outcome.next_decision_id is not None
    }


def _next_of_the_same(history: History) -> dict[str, str]:
    """The next decision of the same subject, where the game did not say what follows."""
    times = {row.decision_id: row.decided_at_ms for row in history.arrivals}
    found: dict[str, str] = {}
    last: dict[Any, str] = {}
    for decision_id in sorted(times, key=lambda one: (times[one], one)):
        subject = history.whose.get(decision_id)
        if subject is None:
            continue
        if subject in last:
            found[last[subject]] = decision_id
        last[subject] = decision_id
    return found
