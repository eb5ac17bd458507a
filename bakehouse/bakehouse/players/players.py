"""Simulated players: they ask for decisions over HTTP and cause outcomes, as their world says.

Arrivals are open-loop: they come at their rate whether or not the server keeps up, so a slow
server shows as latency and not as fewer requests.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from bakehouse.players.game_client import RequestFailed
from bakehouse.players.senders import Sender
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.application.user_code_errors import error_text, source_file, source_line
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.worlds.world import (
    END_AFTER_S,
    SIMULATED,
    BanditWorld,
    EpisodicWorld,
    Happening,
    World,
)

SUBJECTS = 5_000
OUTCOME_TRIES, RETRY_AFTER_S = 20, 0.5  # a game keeps what it could not deliver
ERRORS_KEPT = 20
AT_ONCE = 32  # arrivals started in a row
LEAST_SLEEP_S = 0.002
LOOK_UP_S = 0.2  # how long a wait for the next arrival may overlook `stop`


class AnsweredDecision(NamedTuple):
    """A decision that was acknowledged with 2xx and logged."""

    decision_id: str
    at_s: float  # when the answer came; the client's clock, seconds since 1970
    policy_version: int
    cohort: str


class AcceptedOutcome(NamedTuple):
    """An outcome that was acknowledged with 2xx, once however often it was sent."""

    outcome_id: str
    decision_id: str
    at_s: float  # of the first acknowledgement


@dataclass
class Journal:
    """What the players were promised, to be held against the tables afterwards."""

    decisions: list[AnsweredDecision] = field(default_factory=list)
    outcomes: list[AcceptedOutcome] = field(default_factory=list)
    first_answers: dict[int, float] = field(default_factory=dict)  # version → at_s
    decision_s: deque[float] = field(default_factory=lambda: deque(maxlen=10_000))  # latencies
    not_logged: int = 0  # answered by the baseline because the spool was full
    outcome_posts: int = 0  # duplicates included
    http_errors: int = 0
    errors: Counter[str] = field(default_factory=Counter)  # the first few kinds, in words

    def error(self, problem: object) -> None:
        """Count an error; a few texts are kept."""
        self.http_errors += 1
        text = str(problem)[:200]
        if text in self.errors or len(self.errors) < ERRORS_KEPT:
            self.errors[text] += 1


class Episode:
    """One player's way through an episodic world."""

    def __init__(self, episode_id: str, subject_id: str, state: Hashable) -> None:
        self.episode_id, self.subject_id, self.state = episode_id, subject_id, state
        self.previous: str | None = None


OnDecision = Callable[[dict[str, Any], dict[str, Any]], None]  # request, answer


class Players:
    """Plays one application's world against a server.

    Args:
        rate: decisions a second.
        on_decision: told each request and its answer; cheap, it runs in the loop.
    """

    def __init__(
        self,
        application: Application,
        world: World,
        sender: Sender,
        *,
        rate: float,
        seed: int = 0,
        on_decision: OnDecision | None = None,
    ) -> None:
        self.journal = Journal()
        self._application, self._world, self._sender = application, world, sender
        self._rate, self._on_decision = rate, on_decision
        self._rng = np.random.default_rng(seed)
        self._run_id = f"{SIMULATED}{uuid7()[-12:]}"  # players of two runs are different people
        self._ready: deque[Episode] = deque()  # those whose pause is over
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers = 0  # outcomes yet to be sent
        self._arriving = False
        self._began_s = 0.0  # by the loop's clock
        self._quiet = asyncio.Event()

    async def play(self, stop: asyncio.Event, *, decisions: int | None = None) -> None:
        """Play until `stop` is set, or this many decisions were asked for; then `settle`."""
        loop = asyncio.get_running_loop()
        self._arriving, self._began_s = True, loop.time()
        due, asked = loop.time(), 0
        while not stop.is_set() and (decisions is None or asked < decisions):
            due += self._rng.exponential(1.0 / self._rate)
            while (delay := due - loop.time()) > 0 and not stop.is_set():
                # timers are coarse: shorter sleeps would spin
                await asyncio.sleep(min(max(delay, LEAST_SLEEP_S), LOOK_UP_S))
            if asked % AT_ONCE == 0:
                await asyncio.sleep(0)  # where arrivals are behind, let answers in between
            self._spawn(self._arrive())
            asked += 1
        self._arriving = False

    async def settle(self, timeout_s: float) -> bool:
        """Wait until all that occurred has been delivered; False where time ran out."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._timers or self._tasks:
                    self._quiet.clear()
                    await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    @property
    def undelivered(self) -> int:
        """Requests under way, and outcomes whose time has not come."""
        return self._timers + len(self._tasks)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # a world that raises is a mistake in the application's file: show it
            where = source_line(error, source_file(type(self._world)))
            self.journal.error(f"the simulated player raised {error_text(error)}{where}")
        if not self._tasks and not self._timers:
            self._quiet.set()

    async def _arrive(self) -> None:
        world = self._world.at(asyncio.get_running_loop().time() - self._began_s)
        if isinstance(world, BanditWorld):
            await self._one_decision(world)
        else:
            await self._one_step(world)

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a request, noted in the journal; None where there was none."""
        started = time.perf_counter()
        try:
            answer = await self._sender.decide(request)
        except RequestFailed as error:
            self.journal.error(error)
            return None
        now = time.time()
        journal, version = self.journal, answer["policy_version"]
        journal.decision_s.append(time.perf_counter() - started)
        if answer["cohort"] == "policy":
            journal.first_answers.setdefault(version, now)
        if answer.get("logged", True):
            journal.decisions.append(
                AnsweredDecision(answer["decision_id"], now, version, answer["cohort"])
            )
        else:
            journal.not_logged += 1
        if self._on_decision is not None:
            self._on_decision(request, answer)
        return answer

    async def _one_decision(self, world: BanditWorld) -> None:
        context = world.context(self._rng)
        subject = f"{self._run_id}-{self._rng.integers(SUBJECTS)}"
        request: dict[str, Any] = {
            "subject_id": subject,
            "context": context,
            "decision_id": uuid7(),
        }
        if isinstance(self._application.actions, Ranking):
            request["items"] = world.items(context, self._rng)
            context = {**context, "items": request["items"]}
        answer = await self._ask(request)
        if answer is not None and answer.get("logged", True):
            happenings = world.happenings(context, answer["action"], self._rng)
            self._cause(answer, happenings)

    async def _one_step(self, world: EpisodicWorld) -> None:
        episode = self._ready.popleft() if self._ready else self._begin(world)
        context = world.context(episode.state, self._rng)
        request = {
            "subject_id": episode.subject_id,
            "context": context,
            "decision_id": uuid7(),
            "episode_id": episode.episode_id,
        }
        if episode.previous is not None:
            request["previous_decision_id"] = episode.previous
        answer = await self._ask(request)
        if answer is None or not answer.get("logged", True):
            return  # the player gives up
        action = answer["action"]
        ways = world.transitions(episode.state, action)
        went = ways[self._draw([way.probability for way in ways])]
        happenings = world.happenings(episode.state, action, went, self._rng)
        over = went.next_state is None
        vanished = self._rng.random() < world.vanishing
        self._cause(answer, happenings, end=over and not vanished)
        if over or vanished or not self._arriving:
            return
        episode.previous, episode.state = answer["decision_id"], went.next_state
        pause = float(self._rng.uniform(*world.pause_s))
        played = max((happening.after_s for happening in happenings), default=0.0)
        asyncio.get_running_loop().call_later(played + pause, self._ready.append, episode)

    def _begin(self, world: EpisodicWorld) -> Episode:
        start = world.start()
        at = self._draw(list(start.values()))
        subject = f"{self._run_id}-{self._rng.integers(SUBJECTS)}"
        return Episode(f"episode-{uuid7()}", subject, list(start)[at])

    def _draw(self, probabilities: list[float]) -> int:
        """A position, drawn with its probability (`Generator.choice` takes ten times as long)."""
        left = self._rng.random()
        for at, probability in enumerate(probabilities):
            left -= probability
            if left < 0:
                return at
        return len(probabilities) - 1  # rounding

    def _cause(
        self, answer: dict[str, Any], happenings: list[Happening], *, end: bool = False
    ) -> None:
        """Schedule the outcomes of a decision, with what the network does to them."""
        for happening in happenings:
            outcome: dict[str, Any] = {"kind": "reward", "name": happening.name}
            if happening.value is not None:
                outcome["value"] = happening.value
            self._occur(answer, outcome, happening.after_s)
        if end:
            last = max((happening.after_s for happening in happenings), default=0.0)
            self._occur(answer, {"kind": "end"}, last + END_AFTER_S)

    def _occur(self, answer: dict[str, Any], outcome: dict[str, Any], after_s: float) -> None:
        copies = self._world.delivery.copies_s(after_s, self._rng)
        if not copies:
            return
        outcome |= {
            "outcome_id": uuid7(),
            "decision_id": answer["decision_id"],
            "occurred_at_ms": int((time.time() + after_s) * 1000),
        }
        if "token" in answer:
            outcome["token"] = answer["token"]
        for copy, arrives_s in enumerate(copies):
            self._later(arrives_s, outcome, again=copy > 0)

    def _later(self, after_s: float, outcome: dict[str, Any], *, again: bool = False) -> None:
        self._timers += 1
        send = partial(self._due, outcome, again)
        asyncio.get_running_loop().call_later(after_s, send)

    def _due(self, outcome: dict[str, Any], again: bool) -> None:
        self._timers -= 1
        self._spawn(self._deliver(outcome, again))

    async def _deliver(self, outcome: dict[str, Any], again: bool) -> None:
        for _ in range(OUTCOME_TRIES):
            try:
                await self._sender.send(outcome)
            except RequestFailed as error:
                self.journal.error(error)
                if error.status is not None and error.status != 503:
                    return  # it would be refused again
                await asyncio.sleep(RETRY_AFTER_S)
                continue
            self.journal.outcome_posts += 1
            if not again:
                self.journal.outcomes.append(
                    AcceptedOutcome(outcome["outcome_id"], outcome["decision_id"], time.time())
                )
            return
