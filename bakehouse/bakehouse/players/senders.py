"""How the requests of simulated players travel: one by one, or in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from bakehouse.players.game_client import GameClient, RequestFailed


class Sender(Protocol):
    """How requests travel: one by one, or in batches."""

    async def decide(self, request: dict[str, Any]) -> dict[str, Any]:
        """Raises RequestFailed."""

    async def send(self, outcome: dict[str, Any]) -> None:
        """Raises RequestFailed."""


class OneByOne:
    """One HTTP request for each decision and each outcome."""

    def __init__(self, client: GameClient) -> None:
        self._client = client

    async def decide(self, request: dict[str, Any]) -> dict[str, Any]:
        return await self._client.decide(request)

    async def send(self, outcome: dict[str, Any]) -> None:
        for problem in (await self._client.send_outcomes([outcome])).values():
            raise RequestFailed(f"outcome rejected: {problem}", 422)


class Batched:
    """Collects for a moment, then one HTTP request for all: `decisions:batch`, lists of outcomes.

    Args:
        size: at most this many in a request.
        within_s: how long the first of a batch waits for others.
    """

    def __init__(self, client: GameClient, *, size: int = 100, within_s: float = 0.05) -> None:
        self._client, self._size, self._within_s = client, size, within_s
        self._asked: list[tuple[dict[str, Any], asyncio.Future[Any]]] = []
        self._said: list[tuple[dict[str, Any], asyncio.Future[Any]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def decide(self, request: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = await self._add(self._asked, request, self._decide_all)
        return answer

    async def send(self, outcome: dict[str, Any]) -> None:
        await self._add(self._said, outcome, self._send_all)

    def _add(
        self, batch: list[Any], item: dict[str, Any], flush: Callable[[], None]
    ) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        batch.append((item, answer))
        if len(batch) == 1:
            loop.call_later(self._within_s, flush)
        if len(batch) >= self._size:
            flush()
        return answer

    def _decide_all(self) -> None:
        batch, self._asked = self._asked, []
        self._spawn(batch, self._client.decide_batch)

    def _send_all(self) -> None:
        batch, self._said = self._said, []
        self._spawn(batch, self._client.send_outcomes)

    def _spawn(self, batch: list[Any], post: Callable[[list[Any]], Any]) -> None:
        if batch:
            task = asyncio.create_task(self._post(batch, post))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _post(self, batch: list[Any], post: Callable[[list[Any]], Any]) -> None:
        waiting = [answer for _, answer in batch]
        try:
            answered = await post([item for item, _ in batch])
        except RequestFailed as error:
            for answer in waiting:
                answer.set_exception(RequestFailed(str(error), error.status))
            return
        for at, answer in enumerate(waiting):
            # decisions: a list of results; outcomes: the problems of those rejected, by index
            result = answered.get(at, {}) if isinstance(answered, dict) else answered[at]
            if isinstance(answered, dict) and result:
                result = {"problem": result}
            if "problem" in result:
                answer.set_exception(RequestFailed(f"rejected: {result['problem']}", 200))
            else:
                answer.set_result(result)
