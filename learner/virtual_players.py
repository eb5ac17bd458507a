"""Players of a world in virtual time: their decisions, and the replay rows these become.

Nothing waits and nobody is asked over a wire: a step makes all its decisions by one policy, and
rows come out in the order in which the table would show them.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from learner.known import Known, KnownOutcome, Position
from learner.rows import Arrival, Successor
from schemas.application import Application, EpsilonGreedy
from schemas.cohort import in_holdout
from schemas.policy import Policy
from schemas.propensity import draw_action, executed_distribution, one_hot
from schemas.share import Logged
from schemas.world import END_AFTER_S, BanditWorld, Context, EpisodicWorld, Happening, World

SUBJECTS = 5_000
START_MS = 1_800_000_000_000  # virtual time begins here; any time would do


class Answering(NamedTuple):
    """What answers the players: version 0, which has no policy, is the baseline."""

    version: int
    policy: Policy | None
    epsilon: float


def version_zero(rule: EpsilonGreedy) -> Answering:
    """The baseline mixed with as much exploration as the application begins with."""
    return Answering(0, None, rule.epsilon_after(0))


class Drawn(NamedTuple):
    """One decision: what was chosen, and out of what."""

    action: int
    propensity: float
    own: float  # the policy's own probability of the action
    executed: np.ndarray  # float64 [A]


def draw(
    own: np.ndarray,
    eligible: np.ndarray,
    rule: EpsilonGreedy | None,
    epsilon: float,
    uniform: float,
) -> Drawn:
    """Mix the policy's own distribution with exploration and draw, as serving does.

    Args:
        own: float64 `[A]`
        rule: None explores nothing: the pure baseline of the holdout.
        uniform: in [0, 1).
    """
    executed = own
    if rule is not None:
        executed = executed_distribution(own, eligible, epsilon=epsilon, floor=rule.floor)
    action = draw_action(executed, uniform)
    return Drawn(action, float(executed[action]), float(own[action]), executed)


@dataclass
class Episode:
    """One player's way through an episodic world."""

    subject: int
    state: Hashable
    previous: Arrival | None = None


@dataclass
class Asked:
    """A request, encoded."""

    at_ms: int
    subject: int
    context: Context
    observation: np.ndarray  # float32 [D]
    baseline: int
    episode: Episode | None = None


@dataclass
class VirtualPlayers:
    """Plays one application's world, step by step.

    Args:
        rate_per_s: decisions a second, at random times.
        row_delay_ms: between an event at the broker and its row in the table.
    """

    application: Application
    world: World
    rate_per_s: float
    rng: np.random.Generator
    row_delay_ms: int
    now_ms: int = START_MS
    decisions: int = 0
    _holdout: dict[int, bool] = field(default_factory=dict)
    _rows: list[tuple[int, int, Arrival]] = field(default_factory=list)  # heap by visible_at_ms
    _pausing: list[tuple[int, int, Episode]] = field(default_factory=list)  # heap by ready_at_ms
    _offset: int = 0

    def __post_init__(self) -> None:
        self._everything = np.ones(len(self.application.actions), dtype=bool)

    def play(self, until_ms: int, answering: Answering, *, most: int) -> list[Logged]:
        """All decisions up to `until_ms`, by one policy; what the policy cohort got, in order.

        Args:
            most: decisions to make at most.
        """
        gap_ms = until_ms - self.now_ms
        count = min(int(self.rng.poisson(self.rate_per_s * gap_ms / 1000)), most)
        times = np.sort(self.rng.integers(self.now_ms, until_ms, size=count)).tolist()
        if isinstance(self.world, EpisodicWorld):
            asked = [self._step(self.world, at_ms) for at_ms in times]
        else:
            asked = [self._request(self.world, at_ms) for at_ms in times]
        self.now_ms = until_ms
        self.decisions += count
        return self._answer(asked, answering)

    def rows(self, until_ms: int) -> list[Arrival]:
        """Rows that have become visible since the last call, in order."""
        found = []
        while self._rows and self._rows[0][0] <= until_ms:
            found.append(heapq.heappop(self._rows)[2])
        return found

    def _request(self, world: BanditWorld, at_ms: int) -> Asked:
        return self._asked(world.context(self.rng), at_ms, int(self.rng.integers(SUBJECTS)))

    def _step(self, world: EpisodicWorld, at_ms: int) -> Asked:
        if self._pausing and self._pausing[0][0] <= at_ms:
            episode = heapq.heappop(self._pausing)[2]
        else:
            start = world.start()
            at = self._pick(list(start.values()))
            episode = Episode(int(self.rng.integers(SUBJECTS)), list(start)[at])
        asked = self._asked(world.context(episode.state, self.rng), at_ms, episode.subject)
        asked.episode = episode
        return asked

    def _asked(self, context: Context, at_ms: int, subject: int) -> Asked:
        application = self.application
        baseline = application.actions.position(application.baseline_action(context))
        assert baseline is not None
        return Asked(at_ms, subject, context, application.encoder.encode(context), baseline)

    def _answer(self, asked: Sequence[Asked], answering: Answering) -> list[Logged]:
        if not asked:
            return []
        rule = self.application.exploration
        eligible, actions = self._everything, len(self.application.actions)
        own: Sequence[np.ndarray] | np.ndarray
        if answering.policy is None:
            own = [one_hot(one.baseline, actions) for one in asked]
        else:
            observations = np.array([one.observation for one in asked])  # [B, D]
            masks = np.broadcast_to(eligible, (len(asked), actions))
            own = answering.policy.distribution(observations, masks)  # [B, A]
        uniform = self.rng.random(len(asked)).tolist()
        logged = []
        for at, one in enumerate(asked):
            if self._in_holdout(one.subject):
                kept = one_hot(one.baseline, actions)
                drawn = draw(kept, eligible, None, 0.0, uniform[at])
                self._follow(one, drawn, version=0, holdout=True)
                continue
            drawn = draw(own[at], eligible, rule, answering.epsilon, uniform[at])
            self._follow(one, drawn, version=answering.version, holdout=False)
            logged.append(
                Logged(one.context, drawn.executed, eligible, answering.epsilon, rule.floor)
            )
        return logged

    def _in_holdout(self, subject: int) -> bool:
        if subject not in self._holdout:
            share = self.application.rollout.holdout
            self._holdout[subject] = in_holdout(self.application.name, f"player-{subject}", share)
        return self._holdout[subject]

    def _follow(self, one: Asked, drawn: Drawn, *, version: int, holdout: bool) -> None:
        """Log a decision, and cause what comes of it."""
        row = self._row(one, drawn, version=version, holdout=holdout)
        self._show(row, one.at_ms)
        label = self.application.actions.labels[drawn.action]
        episode, world = one.episode, self.world
        if episode is None:
            assert isinstance(world, BanditWorld)
            self._cause(row, world.happenings(one.context, label, self.rng), ends=False)
            return
        assert isinstance(world, EpisodicWorld)
        if episode.previous is not None:
            self._succeed(episode.previous, row)
        ways = world.transitions(episode.state, label)
        went = ways[self._pick([way.probability for way in ways])]
        happenings = world.happenings(episode.state, label, went, self.rng)
        vanished = self.rng.random() < world.vanishing
        self._cause(row, happenings, ends=went.next_state is None and not vanished)
        if went.next_state is None or vanished:
            return
        played_s = max((happening.after_s for happening in happenings), default=0.0)
        ready_s = played_s + float(self.rng.uniform(*world.pause_s))
        episode.state, episode.previous = went.next_state, row
        ready_at_ms = one.at_ms + round(ready_s * 1000)
        heapq.heappush(self._pausing, (ready_at_ms, self._offset, episode))

    def _row(self, one: Asked, drawn: Drawn, *, version: int, holdout: bool) -> Arrival:
        position = self._position(one.at_ms)
        decision_id = _id(one.at_ms, position.offset)
        return Arrival(
            decision_id=decision_id,
            known=Known(
                action=json.dumps(self.application.actions.labels[drawn.action]),
                propensity=drawn.propensity,
                context=decision_id,  # nobody draws again here, so it need only differ
                positions=(position,),
                outcomes=(),
                contested=False,
            ),
            observation=one.observation,
            eligible=self._everything,
            action=drawn.action,
            baseline=one.baseline,
            decided_at_ms=one.at_ms,
            policy_version=version,
            support=not holdout and drawn.propensity < 1,
            holdout=holdout,
            first=one.episode is None or one.episode.previous is None,
            own=drawn.own,
            successors={},
        )

    def _succeed(self, previous: Arrival, row: Arrival) -> None:
        at_ms, successor = row.decided_at_ms, row.decision_id
        outcome = KnownOutcome(
            f"next:{successor}",
            "next",
            None,
            None,
            None,
            successor,
            at_ms,
            (row.known.positions[0],),
        )
        self._tell(previous, outcome, {successor: (row.observation, row.eligible)})

    def _cause(self, row: Arrival, happenings: Sequence[Happening], *, ends: bool) -> None:
        for happening in happenings:
            self._occur(row, "reward", happening.name, happening.value, happening.after_s)
        if ends:
            last_s = max((happening.after_s for happening in happenings), default=0.0)
            self._occur(row, "end", None, None, last_s + END_AFTER_S)

    def _occur(
        self, row: Arrival, kind: str, name: str | None, value: float | None, after_s: float
    ) -> None:
        copies = self.world.delivery.copies_s(after_s, self.rng)
        if not copies:
            return
        occurred_at_ms = row.decided_at_ms + round(after_s * 1000)
        self._offset += 1
        outcome_id = _id(occurred_at_ms, self._offset)
        for arrives_s in copies:
            position = self._position(row.decided_at_ms + round(arrives_s * 1000))
            self._tell(
                row,
                KnownOutcome(
                    outcome_id, kind, name, value, None, None, occurred_at_ms, (position,)
                ),
                {},
            )

    def _tell(self, row: Arrival, outcome: KnownOutcome, successors: dict[str, Successor]) -> None:
        told = row._replace(known=row.known._replace(outcomes=(outcome,)), successors=successors)
        self._show(told, outcome.received_at_ms)

    def _show(self, row: Arrival, received_at_ms: int) -> None:
        self._offset += 1
        heapq.heappush(self._rows, (received_at_ms + self.row_delay_ms, self._offset, row))

    def _position(self, received_at_ms: int) -> Position:
        self._offset += 1
        return Position(received_at_ms, "virtual", 0, self._offset)

    def _pick(self, probabilities: list[float]) -> int:
        cumulative = np.cumsum(probabilities)
        at = int(cumulative.searchsorted(self.rng.random() * cumulative[-1], side="right"))
        return min(at, len(probabilities) - 1)


def _id(at_ms: int, number: int) -> str:
    """A UUIDv7 that the seed decides: a time, and a number instead of random bits."""
    time = f"{at_ms:012x}"
    return f"{time[:8]}-{time[8:]}-7000-8000-{number:012x}"
