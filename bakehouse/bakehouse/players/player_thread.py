"""Players in a thread of their own, and a running view of how they fare."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from bakehouse.players.game_client import GameClient
from bakehouse.players.players import Journal, Players
from bakehouse.players.senders import Batched, OneByOne
from bakehouse_schemas.application.actions import Discrete
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.application.user_code_errors import error_text
from bakehouse_schemas.errors import ApplicationError, BakehouseError
from bakehouse_schemas.events.checks import eligible_mask
from bakehouse_schemas.execution.propensity import one_hot
from bakehouse_schemas.loading import Loaded
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.worlds.share import Logged, Values, world_values
from bakehouse_schemas.worlds.world import World

DEFAULT_RATE = 100.0  # decisions a second: plenty to learn from, and light on two cores
RECENT = 300  # decisions behind a live figure
SETTLE_MARGIN_S = 15.0  # to deliver what has occurred, beyond the longest delay of the world


def world_of(loaded: Loaded) -> World:
    """The world beside an application. Raises ApplicationError where there is none."""
    if loaded.world is None:
        raise ApplicationError(
            f"{loaded.ref}: it has no world, so there is nobody to play; define "
            "`world = MyWorld()` beside `application` (see applications/level_difficulty.py)"
        )
    return loaded.world


class Recent(NamedTuple):
    """Noise-free worth of the last decisions, by what was answered."""

    policy: Values | None
    holdout: Values | None


class Scoreboard:
    """The last decisions of players, as a world judges them."""

    def __init__(self, application: Application, world: World) -> None:
        self._application, self._world = application, world
        self._recent: dict[str, deque[tuple[dict[str, Any], Any, int]]] = {
            cohort: deque(maxlen=RECENT) for cohort in ("policy", "holdout")
        }
        self.version = 0  # of the last answer by policy
        self._began_s: float | None = None  # when the first decision was answered

    def note(self, request: dict[str, Any], answer: dict[str, Any]) -> None:
        """Take note of one answered decision."""
        if self._began_s is None:
            self._began_s = time.monotonic()
        cohort, version = answer["cohort"], answer["policy_version"]
        if cohort in self._recent:
            context, items = request["context"], request.get("items")
            seen = context if items is None else {**context, "items": items}
            self._recent[cohort].append((seen, answer["action"], version))
        if cohort == "policy":
            self.version = version

    def recent(self, explorations: dict[int, Exploration]) -> Recent:
        """Values of the last decisions, by the actions taken.

        Args:
            explorations: of each policy version; one that is not there is taken as version 0's.
        """
        start = self._application.exploration.after(0)
        application = self._application
        actions = application.actions
        world = self._world.at(0.0 if self._began_s is None else time.monotonic() - self._began_s)
        values: list[Values | None] = []
        for cohort in ("policy", "holdout"):
            logged = []
            for context, action, version in list(self._recent[cohort]):
                eligible = eligible_mask(application, eligible=None, items=context.get("items"))
                taken = np.zeros(len(eligible))
                if isinstance(actions, Discrete):
                    taken = one_hot(actions.labels.index(action), len(eligible))
                exploration = explorations.get(version, start)
                logged.append(Logged(context, taken, eligible, exploration, action))
            values.append(world_values(world, application, logged) if logged else None)
        return Recent(*values)


class PlayerThread:
    """Plays in a thread of its own, from `start` until `stop` or so many decisions.

    Args:
        batched: use the batch routes.
        settings: whose API keys are sent, where it has any.
    """

    def __init__(
        self,
        loaded: Loaded,
        url: str,
        *,
        rate: float | None = None,
        decisions: int | None = None,
        seed: int = 0,
        batched: bool = False,
        connections: int = 64,
        scoreboard: Scoreboard | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._loaded, self._world, self._url = loaded, world_of(loaded), url
        self._rate, self._decisions, self._seed = rate or DEFAULT_RATE, decisions, seed
        self._batched, self._connections = batched, connections
        self._scoreboard, self._settings = scoreboard, settings
        self._players: Players | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._played = threading.Event()
        self._failure: BaseException | None = None
        self.settled = False  # all that occurred was delivered
        self.cpu_s = 0.0  # CPU time of the thread
        self._thread = threading.Thread(target=self._run, name="players", daemon=True)

    @property
    def journal(self) -> Journal:
        return self._players.journal if self._players is not None else Journal()

    @property
    def undelivered(self) -> int:
        """Outcomes that have occurred, or will, and are not delivered yet."""
        return self._players.undelivered if self._players is not None else 0

    @property
    def is_over(self) -> bool:
        """Whether everything has been played and delivered."""
        return not self._thread.is_alive()

    def start(self) -> None:
        """Begin to play."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """No new decisions from here on; what they cause is still delivered."""
        if self._loop is not None and self._stop is not None and not self.is_over:
            try:
                self._loop.call_soon_threadsafe(self._stop.set)
            except RuntimeError:
                return  # it ended meanwhile
            self._played.wait(timeout=SETTLE_MARGIN_S)

    def join(self, timeout_s: float) -> bool:
        """Wait until all is delivered; False where time ran out.

        Raises:
            BakehouseError: the players could not go on.
        """
        self._thread.join(timeout=timeout_s)
        if self._failure is not None:
            known = isinstance(self._failure, BakehouseError)
            why = self._failure if known else error_text(self._failure)
            raise BakehouseError(f"the simulated players stopped: {why}") from self._failure
        return self.is_over

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_new_event_loop) as runner:
                runner.run(self._play())
        except BaseException as failure:
            self._failure = failure  # raised again where somebody waits
        finally:
            self._ready.set()
            self._played.set()

    async def _play(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        application = self._loaded.application
        began = time.thread_time()
        async with GameClient(
            self._url,
            application.name,
            settings=self._settings,
            connections=self._connections,
        ) as client:
            self._players = Players(
                application,
                self._world,
                Batched(client) if self._batched else OneByOne(client),
                rate=self._rate,
                seed=self._seed,
                on_decision=self._scoreboard.note if self._scoreboard else None,
            )
            self._ready.set()
            await self._players.play(self._stop, decisions=self._decisions)
            self._played.set()
            window_s = application.reward.window.total_seconds()
            patience_s = window_s + self._world.delivery.late_by_s + SETTLE_MARGIN_S
            self.settled = await self._players.settle(patience_s)
            self.cpu_s = time.thread_time() - began


def latency_ms(journal: Journal) -> dict[str, float | None]:
    """p50 and p99 of the last decisions as the players saw them, in milliseconds."""
    seconds = list(journal.decision_s)
    if not seconds:
        return {"p50": None, "p99": None}
    p50, p99 = np.percentile(seconds, [50, 99]).tolist()
    return {"p50": round(p50 * 1000, 2), "p99": round(p99 * 1000, 2)}


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """Of uvloop where there is one; Windows has none."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
