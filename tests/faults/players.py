"""Players who never give up: `python -m tests.faults.players '{"url": …}'`.

A process of its own, so that what it measures is serving and not whoever drives the faults.
Every request carries its ids and is sent again until it is answered, as a game's server would.
Told on standard input, one JSON object a line:

    {"rate": 200}     decisions a second from now on
    {"any_ids": true} decisions are named by texts of any kind, which 0.1.0 refused
    {"hold": true}    keep outcomes back; false lets them go
    {"finish": true}  no more decisions; what is under way is brought to its end

Once a second it says on standard output how many events were acknowledged; at the end it writes
its journal to the file that it was given.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bakehouse.players.game_client import GameClient, RequestFailed
from bakehouse_schemas.ids import uuid7
from tests.faults.game import COUNTRIES, SEGMENTS, application, wins
from tests.faults.ids import game_id

CONNECTIONS = 32
MOST_UNDER_WAY = 400  # while serving is down, players wait
PATIENCE_S = 0.1  # before a request is sent again
REPEATED = 0.03  # outcomes that are told twice, and decisions that are asked for twice
FOLLOWED = 0.1  # decisions that follow the one before
LATE = 0.01  # outcomes that come when the join may have forgotten their decision
LATE_S = 20.0


@dataclass
class Journal:
    """What the players were promised, and how it went. Times are monotonic seconds."""

    # decision_id, action, propensity, policy_version, cohort, logged, when it was answered
    decisions: list[list[Any]] = field(default_factory=list)
    outcomes: list[list[str]] = field(default_factory=list)  # outcome_id, decision_id
    latencies: list[list[float]] = field(default_factory=list)  # when asked, seconds it took
    failures: list[list[Any]] = field(default_factory=list)  # when, status or None, words
    unlogged: int = 0

    @property
    def events(self) -> int:
        """Acknowledged."""
        return len(self.decisions) + len(self.outcomes)


class Players:
    """The process, as its driver sees it."""

    def __init__(self, url: str, file: Path, *, rate: float, seed: int) -> None:
        self._file = file
        given = {"url": url, "file": str(file), "rate": rate, "seed": seed}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.players", json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.events = 0  # acknowledged so far
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.events = json.loads(line)["events"]

    def tell(self, **wish: Any) -> None:
        """See the module."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()

    def finish(self, timeout_s: float) -> Journal:
        """Bring everything to its end. Raises RuntimeError if that fails."""
        self.tell(finish=True)
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"the players did not come to an end in {timeout_s} s") from None
        if status:
            raise RuntimeError(f"the players ended with {status}")
        return Journal(**json.loads(self._file.read_text()))

    def kill(self) -> None:
        """End them, whatever they do."""
        self._process.kill()
        self._process.wait()


class _Play:
    def __init__(self, client: GameClient, *, rate: float, seed: int) -> None:
        self._client = client
        self.rate = rate
        self.any_ids = False
        self.journal = Journal()
        self.finishing = asyncio.Event()
        self.free = asyncio.Event()  # outcomes are not held back
        self.free.set()
        self._rng = np.random.default_rng(seed)
        self._room = asyncio.Semaphore(MOST_UNDER_WAY)
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: dict[str, str] = {}  # subject → its last decision

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self.finishing.is_set():
            await self._room.acquire()
            self._spawn(self._decide())
            due = max(due + 1 / self.rate, loop.time() - 1.0)  # no more than a second's arrears
            if (wait_s := due - loop.time()) > 0:
                await asyncio.sleep(wait_s)
        self.free.set()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            raise SystemExit(f"a player broke: {task.exception()!r}")

    async def _decide(self) -> None:
        rng = self._rng
        subject = f"player-{rng.integers(5_000)}"
        request: dict[str, Any] = {
            "subject_id": subject,
            "decision_id": game_id() if self.any_ids else uuid7(),
            "context": {
                "skill": round(float(rng.random()), 3),
                "losses": int(rng.integers(0, 10)),
                "segment": SEGMENTS[rng.integers(3)],
                "country": COUNTRIES[rng.integers(5)],
            },
        }
        previous = self._last.pop(subject, None)
        if previous is not None and rng.random() < 5 * FOLLOWED:
            request |= {"previous_decision_id": previous, "episode_id": previous}
        try:
            answer = await self._answered("decide", request)
            if answer is not None and rng.random() < REPEATED:
                again = await self._answered("decide", request)
                if again is not None and again["action"] != answer["action"]:
                    self.journal.failures.append([time.monotonic(), 200, "another answer"])
        finally:
            self._room.release()
        if answer is None:
            return
        self._last[subject] = answer["decision_id"]
        names = ("decision_id", "action", "propensity", "policy_version", "cohort", "logged")
        self.journal.decisions.append([*(answer[name] for name in names), time.monotonic()])
        self.journal.unlogged += not answer["logged"]
        won = wins(request["context"], answer["action"])
        if rng.random() < 0.9:
            delay_s = LATE_S if rng.random() < LATE else float(rng.exponential(0.6))
            self._spawn(self._tell(answer, "won" if won else "left", min(delay_s, LATE_S)))
        if won and rng.random() < 0.3:
            self._spawn(self._tell(answer, "won", float(rng.uniform(0.5, 3.0))))

    async def _tell(self, answer: dict[str, Any], name: str, delay_s: float) -> None:
        try:
            async with asyncio.timeout(delay_s):
                await self.finishing.wait()
        except TimeoutError:
            pass
        await self.free.wait()
        outcome = {
            "outcome_id": uuid7(),
            "decision_id": answer["decision_id"],
            "name": name,
            "value": 1.0,
            "occurred_at_ms": int(time.time() * 1000),
        }
        if "token" in answer:
            outcome["token"] = answer["token"]
        if await self._answered("tell", outcome) is None:
            return
        self.journal.outcomes.append([outcome["outcome_id"], outcome["decision_id"]])
        if self._rng.random() < REPEATED:
            await self._answered("tell", outcome)

    async def _answered(self, what: str, body: dict[str, Any]) -> Any:
        """The answer, however often it takes; None where it was refused for good."""
        first = True
        while True:
            asked = time.monotonic()
            try:
                if what == "decide":
                    answer: Any = await self._client.decide(body)
                    if first:
                        self.journal.latencies.append([asked, time.monotonic() - asked])
                else:
                    answer = not await self._client.send_outcomes([body])
                    if not answer:
                        raise RequestFailed("the outcome was rejected", 422)
                return answer
            except RequestFailed as error:
                self.journal.failures.append([time.monotonic(), error.status, str(error)[:200]])
                if error.status is not None and 400 <= error.status < 500:
                    return None
            first = False
            await asyncio.sleep(PATIENCE_S)  # a game waits a little before it asks again

    async def report(self) -> None:
        """Once a second, on standard output."""
        while True:
            print(json.dumps({"events": self.journal.events}), flush=True)
            await asyncio.sleep(1.0)


async def main(given: dict[str, Any]) -> Journal:
    """Play until told to finish."""
    loop = asyncio.get_running_loop()
    client = GameClient(given["url"], application.name, connections=CONNECTIONS)
    async with client:
        play = _Play(client, rate=given["rate"], seed=given["seed"])
        reporting = asyncio.create_task(play.report())

        def heard(line: str) -> None:
            wish = json.loads(line) if line else {"finish": True}  # whoever drove us is gone
            play.rate = wish.get("rate", play.rate)
            play.any_ids = wish.get("any_ids", play.any_ids)
            if "hold" in wish:
                (play.free.clear if wish["hold"] else play.free.set)()
            if wish.get("finish"):
                play.finishing.set()

        def listen() -> None:
            while not play.finishing.is_set():
                line = sys.stdin.readline()
                loop.call_soon_threadsafe(heard, line)
                if not line:
                    return

        threading.Thread(target=listen, daemon=True).start()
        await play.run()
        reporting.cancel()
        return play.journal


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    found = asyncio.run(main(arguments))
    Path(arguments["file"]).write_text(json.dumps(vars(found)))
