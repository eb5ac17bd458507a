"""Players of a world in virtual time: their decisions, and the replay rows these become.

Nothing waits and nobody is requests over a wire: a step makes all its decisions by one policy, and
rows come out in the order in which the table would show them.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bakehouse_learner.replay.folded_decision import FoldedDecision, FoldedOutcome, Position
from bakehouse_learner.replay.row_decoder import Arrival, Successor
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.decisions.cohort import HOLDOUT, Role, place_in_rollout, role_of
from bakehouse_schemas.execution.base_policy import BasePolicy, baseline_policy
from bakehouse_schemas.execution.propensity import (
    draw_action,
    execute,
    executed_distribution,
    one_hot,
)
from bakehouse_schemas.policy.policy import Policy
from bakehouse_schemas.worlds.share import Logged
from bakehouse_schemas.worlds.world import (
    END_AFTER_S,
    BanditWorld,
    Context,
    EpisodicWorld,
    Happening,
    World,
    blamed_on,
)

SUBJECTS = 5_000
START_MS = 1_800_000_000_000  # virtual time begins here; any time would do


class Answering(NamedTuple):
    """What answers the players: version 0, which has no policy, is the baseline."""

    version: int
    policy: Policy | None
    exploration: Exploration
    canary: float = 1.0  # share of the subjects outside the holdout that it answers


def version_zero(application: Application) -> Answering:
    """The baseline mixed with as much exploration as the application begins with."""
    return Answering(0, None, application.exploration.after(0))


class Drawn(NamedTuple):
    """One decision: what was chosen, and out of what."""

    row: np.ndarray  # float64 [W]
    propensity: float
    base_propensity: (
        float  # the policy's own probability of a label; of other actions the propensity
    )
    executed: np.ndarray  # float64 [A], of labels


def draw(
    application: Application,
    base_policy: BasePolicy,
    eligible: np.ndarray,
    exploration: Exploration,
    uniform: float,
) -> Drawn:
    """Mix the policy's own distribution with exploration and draw, as serving does.

    Args:
        base_policy: of one context.
        exploration: `NONE` for the pure baseline of the holdout, of labels.
        uniform: in [0, 1).
    """
    if application.shape.kind != "discrete":
        made = execute(application.shape, base_policy, eligible, exploration, uniform)
        return Drawn(made.row, made.propensity, made.propensity, base_policy.probabilities[0])
    executed = mine = base_policy.probabilities[0]
    if exploration.kind != "none":
        executed = executed_distribution(
            mine, eligible, epsilon=exploration.epsilon, floor=exploration.floor
        )
    at = draw_action(executed, uniform)
    return Drawn(np.array([at], float), float(executed[at]), float(mine[at]), executed)


@dataclass
class Episode:
    """One player's way through an episodic world."""

    subject: int
    state: Hashable
    previous: Arrival | None = None


@dataclass
class PlayerRequest:
    """A request, encoded."""

    at_ms: int
    subject: int
    context: Context  # as worlds and baselines see it: with the items to rank, where there are
    observation: np.ndarray  # float32 [D]
    baseline: np.ndarray  # float64 [W]
    eligible: np.ndarray  # bool [A]
    items: np.ndarray | None  # float32 [A, F]
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
    _began_as: World = field(init=False)
    _places: dict[int, float] = field(default_factory=dict)
    _rows: list[tuple[int, int, Arrival]] = field(default_factory=list)  # heap by visible_at_ms
    _pausing: list[tuple[int, int, Episode]] = field(default_factory=list)  # heap by ready_at_ms
    _offset: int = 0

    def __post_init__(self) -> None:
        self._began_as = self.world
        self._everything = np.ones(self.application.shape.choices, dtype=bool)

    def play(self, until_ms: int, answering: Answering, *, most: int) -> list[Logged]:
        """All decisions up to `until_ms`, by one policy; what the policy cohort got, in order.

        Args:
            most: decisions to make at most.

        Raises:
            ApplicationError: the world raised something, with the line of the application file.
        """
        with blamed_on(self._began_as):
            return self._play(until_ms, answering, most=most)

    def _play(self, until_ms: int, answering: Answering, *, most: int) -> list[Logged]:
        self.world = self._began_as.at((self.now_ms - START_MS) / 1000)
        gap_ms = until_ms - self.now_ms
        count = min(int(self.rng.poisson(self.rate_per_s * gap_ms / 1000)), most)
        times = np.sort(self.rng.integers(self.now_ms, until_ms, size=count)).tolist()
        if isinstance(self.world, EpisodicWorld):
            requests = [self._step(self.world, at_ms) for at_ms in times]
        else:
            requests = [self._request(self.world, at_ms) for at_ms in times]
        self.now_ms = until_ms
        self.decisions += count
        return self._answer(requests, answering)

    def rows(self, until_ms: int) -> list[Arrival]:
        """Rows that have become visible since the last call, in order."""
        found = []
        while self._rows and self._rows[0][0] <= until_ms:
            found.append(heapq.heappop(self._rows)[2])
        return found

    def _request(self, world: BanditWorld, at_ms: int) -> PlayerRequest:
        return self._encoded(world.context(self.rng), at_ms, int(self.rng.integers(SUBJECTS)))

    def _step(self, world: EpisodicWorld, at_ms: int) -> PlayerRequest:
        if self._pausing and self._pausing[0][0] <= at_ms:
            episode = heapq.heappop(self._pausing)[2]
        else:
            start = world.start()
            at = self._pick(list(start.values()))
            episode = Episode(int(self.rng.integers(SUBJECTS)), list(start)[at])
        requests = self._encoded(world.context(episode.state, self.rng), at_ms, episode.subject)
        requests.episode = episode
        return requests

    def _encoded(self, context: Context, at_ms: int, subject: int) -> PlayerRequest:
        application, actions = self.application, self.application.actions
        offered, items = None, None
        eligible = self._everything
        if isinstance(actions, Ranking):
            assert isinstance(self.world, BanditWorld)
            offered = self.world.items(context, self.rng)
            items = actions.encode_items(offered)
            eligible = np.arange(len(eligible)) < len(offered)
        baseline = actions.row_of(application.baseline_action(context, offered), offered)
        observation = application.encoder.encode(context)
        if offered is not None:
            context = {**context, "items": offered}
        return PlayerRequest(at_ms, subject, context, observation, baseline, eligible, items)

    def _answer(self, requests: Sequence[PlayerRequest], answering: Answering) -> list[Logged]:
        if not requests:
            return []
        zero = version_zero(self.application)
        base_policy = self._base_policy(requests, answering)
        share = 0.0 if answering.policy is None else answering.canary
        ruled = base_policy if answering.policy is None else self._base_policy(requests, zero)
        uniform = self.rng.random(len(requests)).tolist()
        logged = []
        for at, one in enumerate(requests):
            role = role_of(self._place(one.subject), share, self.application.mode)
            if not role.explores:  # the pure baseline
                kept = one_hot(int(one.baseline[0]), len(one.eligible)) if self._labels else None
                drawn = Drawn(one.baseline, 1.0, 1.0, one.eligible if kept is None else kept)
                self._follow(one, drawn, version=0, role=role)
                continue
            who, mine = (answering, base_policy) if role.by_policy else (zero, ruled)
            drawn = draw(self.application, mine.at(at), one.eligible, who.exploration, uniform[at])
            action = self._follow(one, drawn, version=who.version, role=role)
            logged.append(
                Logged(one.context, drawn.executed, one.eligible, who.exploration, action)
            )
        return logged

    def _base_policy(self, requests: Sequence[PlayerRequest], answering: Answering) -> BasePolicy:
        if answering.policy is None:
            rows = np.array([one.baseline for one in requests])  # [B, W]
            return baseline_policy(self.application.shape, rows, answering.exploration)
        exploration = answering.exploration
        return answering.policy.base_policy(
            np.array([one.observation for one in requests]),  # [B, D]
            np.array([one.eligible for one in requests]),  # [B, A]
            np.array([one.items for one in requests]) if requests[0].items is not None else None,
            temperature=exploration.temperature if exploration.kind == "softmax" else None,
        )

    @property
    def _labels(self) -> bool:
        return self.application.shape.kind == "discrete"

    def _place(self, subject: int) -> float:
        if subject not in self._places:
            share = self.application.rollout.holdout
            name = f"player-{subject}"
            self._places[subject] = place_in_rollout(self.application.name, name, share)
        return self._places[subject]

    def _follow(self, one: PlayerRequest, drawn: Drawn, *, version: int, role: Role) -> Any:
        """Log a decision, and cause what comes of it; returns its action, as JSON carries it."""
        action = self.application.actions.action_of(drawn.row, one.context.get("items"))
        row = self._row(one, drawn, action, version=version, role=role)
        self._show(row, one.at_ms)
        episode, world = one.episode, self.world
        if episode is None:
            assert isinstance(world, BanditWorld)
            self._cause(row, world.happenings(one.context, action, self.rng), ends=False)
            return action
        assert isinstance(world, EpisodicWorld)
        if episode.previous is not None:
            self._succeed(episode.previous, row)
        ways = world.transitions(episode.state, action)
        went = ways[self._pick([way.probability for way in ways])]
        happenings = world.happenings(episode.state, action, went, self.rng)
        vanished = self.rng.random() < world.vanishing
        self._cause(row, happenings, ends=went.next_state is None and not vanished)
        if went.next_state is None or vanished:
            return action
        played_s = max((happening.after_s for happening in happenings), default=0.0)
        ready_s = played_s + float(self.rng.uniform(*world.pause_s))
        episode.state, episode.previous = went.next_state, row
        ready_at_ms = one.at_ms + round(ready_s * 1000)
        heapq.heappush(self._pausing, (ready_at_ms, self._offset, episode))
        return action

    def _row(
        self, one: PlayerRequest, drawn: Drawn, action: Any, *, version: int, role: Role
    ) -> Arrival:
        position = self._position(one.at_ms)
        decision_id = _id(one.at_ms, position.offset)
        return Arrival(
            decision_id=decision_id,
            known=FoldedDecision(
                action=json.dumps(action),
                propensity=drawn.propensity,
                context=decision_id,  # nobody draws again here, so it need only differ
                positions=(position,),
                outcomes=(),
                contested=False,
            ),
            observation=one.observation,
            eligible=one.eligible,
            action=drawn.row,
            baseline=one.baseline,
            decided_at_ms=one.at_ms,
            policy_version=version,
            support=role.explores and (drawn.propensity < 1 or not self._labels),
            holdout=role is HOLDOUT,
            first=one.episode is None or one.episode.previous is None,
            base_propensity=drawn.base_propensity,
            successors={},
            items=one.items,
        )

    def _succeed(self, previous: Arrival, row: Arrival) -> None:
        at_ms, successor = row.decided_at_ms, row.decision_id
        outcome = FoldedOutcome(
            f"next:{successor}",
            "next",
            None,
            None,
            None,
            successor,
            at_ms,
            (row.known.positions[0],),
        )
        self._deliver(previous, outcome, {successor: (row.observation, row.eligible)})

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
            self._deliver(
                row,
                FoldedOutcome(
                    outcome_id, kind, name, value, None, None, occurred_at_ms, (position,)
                ),
                {},
            )

    def _deliver(
        self, row: Arrival, outcome: FoldedOutcome, successors: dict[str, Successor]
    ) -> None:
        arrival = row._replace(known=row.known._replace(outcomes=(outcome,)), successors=successors)
        self._show(arrival, outcome.received_at_ms)

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
