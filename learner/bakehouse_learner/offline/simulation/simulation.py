"""A learner in a world, in one process and in virtual time: no Kafka, no Spark, no HTTP.

The learner is production's own (`bakehouse_learner.learning.Learning`); what is simulated is around
it: players, the delay of rows and policies, and a clock. The same seed plays the same game.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np

from bakehouse_learner.gate.candidate import Candidate
from bakehouse_learner.learning import Learning
from bakehouse_learner.offline.simulation.virtual_players import (
    START_MS,
    Answering,
    VirtualPlayers,
    version_zero,
)
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.cadence import Cadence
from bakehouse_learner.training.plan import Plan, training_seed
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.exploration import NONE
from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.worlds.share import Logged, Values, share, world_values
from bakehouse_schemas.worlds.world import EpisodicWorld, World

TURN_MS = 100  # the learner looks for rows this often at most
STEP_MS = 200  # of an episodic world: players answer each other's decisions no quicker


class Delays(NamedTuple):
    """How long the parts around the learner take, in milliseconds (docs/benchmarks.md)."""

    row_ms: int = 800  # an event at the broker → its row in the table
    policy_ms: int = 200  # a training begins → its policy answers


class Point(NamedTuple):
    """How things stood after so many decisions."""

    decisions: int
    at_s: float  # virtual
    share: float | None  # of the last decisions of the policy cohort; None: there is no room
    version: int  # that answered


class Turn(NamedTuple):
    """A change of what answers, or of what the gate thinks of it."""

    version: int
    decisions: int
    at_s: float  # virtual
    what: Literal["leaves version 0", "anchor", "rolled back", "frozen"]
    reason: str


@dataclass
class Result:
    """What came of a simulation."""

    points: list[Point] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    values: Values | None = None  # of the last decisions
    decisions: int = 0
    published: int = 0  # versions that answered
    left_version_0: int | None = None  # after so many decisions a first policy answered
    minibatches: int = 0
    train_s: float = 0.0  # spent training
    wall_s: float = 0.0
    learning: Learning | None = None  # as it is in the end

    @property
    def share(self) -> float | None:
        """Of the last decisions of the policy cohort."""
        return share(self.values) if self.values is not None else None

    @property
    def minibatches_per_s(self) -> float:
        """While training; NaN where nothing was trained."""
        return self.minibatches / self.train_s if self.train_s > 0 else float("nan")

    def decisions_until(self, least: float) -> int | None:
        """Decisions until the share was at least this for the first time; None: never."""
        reached = (p.decisions for p in self.points if p.share is not None and p.share >= least)
        return next(reached, None)


def simulate(
    application: Application,
    world: World,
    build: Callable[[Setup], TrainableAgent],
    *,
    decisions: int,
    rate_per_s: float = 100.0,
    seed: int = 0,
    on_step: Callable[[Point], None] | None = None,
    delays: Delays = Delays(),  # noqa: B008 - immutable
    share_over: int = 1_000,
    of_exploring: bool = True,
    learning: type[Learning] = Learning,
) -> Result:
    """Let the application's agent learn in its world.

    Args:
        build: makes an agent; `bakehouse_learner.agents.build_agent`.
        decisions: to be made, those of the holdout included.
        rate_per_s: decisions a second of virtual time.
        seed: of players, draws and training; the application's own seed is not used.
        on_step: told twice for every `share_over` decisions.
        share_over: decisions of the policy cohort that a share is over.
        of_exploring: the best that a share is of explores as the policy does. False: it does not,
            so that shares of different explorations are of the same whole.
        learning: the learner; one that also tells what it does, for whoever watches.

    Raises:
        ApplicationError: the application's policy answers nobody (its mode is not `online`).
    """
    if application.mode == "logging_only":
        raise ApplicationError(
            f"{application.name!r} is in mode {application.mode!r}, in which no policy answers; "
            "expected 'online' or 'apprentice'"
        )
    training = replace(application.training, seed=seed)
    return _Simulation(
        replace(application, training=training),
        world,
        build,
        rate_per_s,
        delays,
        share_over,
        of_exploring,
        learning,
    ).run(decisions, on_step)


class _Simulation:
    """A learner and virtual players, turn by turn in virtual time."""

    def __init__(
        self,
        application: Application,
        world: World,
        build: Callable[[Setup], TrainableAgent],
        rate_per_s: float,
        delays: Delays,
        share_over: int,
        of_exploring: bool,
        learning: type[Learning],
    ) -> None:
        self.application, self.world, self.delays = application, world, delays
        self.of_exploring = of_exploring
        self.learning = learning(application, build)
        rng = np.random.default_rng([application.training.seed, 1])
        self.players = VirtualPlayers(application, world, rate_per_s, rng, delays.row_ms)
        self.answering = version_zero(application)
        self.answered = {0: self.answering}  # versions that were published, by number
        self.coming: deque[tuple[int, Answering]] = deque()  # published, by when they answer
        self.recent: deque[Logged] = deque(maxlen=share_over)
        self.result = Result(learning=self.learning)
        self.trained_at_ms: int | None = None
        self.warm = False
        self.turns = 0

    def run(self, decisions: int, on_step: Callable[[Point], None] | None) -> Result:
        began = time.perf_counter()
        self.learning.warm_up()
        self.warm = self.learning.agent is not None
        assert self.recent.maxlen is not None
        every = max(self.recent.maxlen // 2, 1)
        told = 0
        cadence_ms = round(self.application.training.every.total_seconds() * 1000)
        while self.players.decisions < decisions:
            self._play(self.players.now_ms + max(cadence_ms, TURN_MS), decisions)
            self._learn()
            due = self.players.decisions // every > told
            if (due or self.players.decisions >= decisions) and self.recent:
                told = self.players.decisions // every
                point = self._point()
                if on_step is not None:
                    on_step(point)
        self.result.decisions = self.players.decisions
        self.result.wall_s = time.perf_counter() - began
        return self.result

    def _at_s(self) -> float:
        return (self.players.now_ms - START_MS) / 1000

    def _point(self) -> Point:
        made: Iterable[Logged] = self.recent
        if not self.of_exploring:
            made = (one._replace(exploration=NONE) for one in self.recent)
        values = world_values(self.players.world, self.application, made)
        point = Point(self.players.decisions, self._at_s(), share(values), self.answering.version)
        self.result.values = values
        self.result.points.append(point)
        return point

    def _play(self, until_ms: int, decisions: int) -> None:
        """Let the players play; a policy that is due meanwhile answers from then on."""
        players = self.players
        while players.now_ms < until_ms:
            while self.coming and self.coming[0][0] <= players.now_ms:
                self._answer_with(self.coming.popleft()[1])
            to_ms = min(until_ms, self.coming[0][0]) if self.coming else until_ms
            if isinstance(self.world, EpisodicWorld):
                to_ms = min(to_ms, players.now_ms + STEP_MS)
            most = decisions - players.decisions
            self.recent += players.play(to_ms, self.answering, most=most)

    def _answer_with(self, answering: Answering) -> None:
        self.answering = answering
        if answering.version > 0 and self.result.left_version_0 is None:
            self.result.left_version_0 = self.players.decisions

    def _learn(self) -> None:
        now_ms, learning = self.players.now_ms, self.learning
        learning.ingest(self.players.rows(now_ms))
        stream_time_ms = now_ms - self.delays.row_ms  # all that was received by then is in
        cadence = Cadence(self.application.training.every)
        last_s = None if self.trained_at_ms is None else self.trained_at_ms / 1000
        new = learning.news(stream_time_ms)
        if not cadence.is_due(now=now_ms / 1000, last=last_s, new=new):
            return
        self.trained_at_ms = now_ms
        self.turns += 1
        version = learning.version + 1
        candidate = learning.train(
            Plan(
                version=version,
                replay_version=self.turns,
                stream_time_ms=stream_time_ms,
                seed=training_seed(self.application.training, version),
                at_ms=now_ms,
            )
        )
        if candidate is not None:
            self._take(candidate)

    def _take(self, candidate: Candidate) -> None:
        result, report, learning = self.result, candidate.report, self.learning
        if self.warm:  # else compiling is in it
            result.minibatches += _minibatches(learning, candidate)
            result.train_s += candidate.seconds["train"]
        self.warm = True
        answers_at_ms = self.players.now_ms + self.delays.policy_ms
        if report.publish:
            answering = Answering(
                candidate.version,
                learning.deployment.current.policy,
                candidate.exploration,
                report.canary,
            )
            kept = (0, self.learning.deployment.anchor.number, candidate.version)
            self.answered = {n: a for n, a in self.answered.items() if n in kept} | {
                candidate.version: answering
            }
            result.published += 1
            self.coming.append((answers_at_ms, answering))
        elif report.rollback_to is not None:
            self.coming.append((answers_at_ms, self.answered[report.rollback_to]))
        for happened, what in (
            (report.leaves_version_0, "leaves version 0"),
            (report.new_anchor, "anchor"),
            (report.rollback_to is not None, "rolled back"),
            (report.freeze, "frozen"),
        ):
            if happened:
                result.turns.append(
                    Turn(
                        candidate.version,
                        self.players.decisions,
                        self._at_s(),
                        what,  # type: ignore[arg-type] # one of the four above
                        report.reason,
                    )
                )


def _minibatches(learning: Learning, candidate: Candidate) -> int:
    """Minibatches of one training; of an agent that reads the whole ring, as many as it holds."""
    training = learning.application.training
    assert learning.agent is not None
    if learning.agent.learns_from_ring:
        return -(-candidate.experiences // training.batch)
    per_call = training.steps * training.batch
    return training.steps * max(1, -(-candidate.new_experiences // per_call))
