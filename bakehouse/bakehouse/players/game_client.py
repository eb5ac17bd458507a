"""A game's side of the HTTP API: keep-alive connections, one request at a time on each.

Lean on purpose: it shares the machine with what it puts under load, and a general HTTP client
costs more than the server that it asks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Self, cast
from urllib.parse import urlsplit

import orjson

from bakehouse.stack_client import key_words
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.process.keys import Scope
from bakehouse_schemas.process.settings import Settings

REQUEST_TIMEOUT_S = 10.0
MAX_RESPONSE_BYTES = 64 << 20
ROUTES: dict[str, Scope] = {
    "decisions": "decide",
    "decisions:batch": "decide",
    "outcomes": "outcome",
}


class RequestFailed(BakehouseError):
    """A request was answered with something else than 2xx, or not at all.

    Attributes:
        status: of the HTTP answer; None where there was none.
        body: of the HTTP answer.
    """

    def __init__(self, message: str, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class _Stale(RequestFailed):
    """A kept connection was closed by the server before any of the answer came: send again."""


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answered = 0
        self.sent_at = 0.0
        self._answer: asyncio.Future[bytes] | None = None
        self._buffer = bytearray()
        self._body_at = 0  # 0: the head has not come whole
        self._needed = 0
        self._status = 0
        self.keep = True

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing() and self.keep

    def send(self, data: bytes, answer: asyncio.Future[bytes], now: float) -> None:
        assert self.transport is not None
        self._answer, self.sent_at = answer, now
        self._buffer.clear()
        self._body_at = 0
        self.transport.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._body_at and not self._read_head():
            return
        if len(self._buffer) >= self._needed:
            body = bytes(self._buffer[self._body_at : self._needed])
            if 200 <= self._status < 300:
                self._finish(body)
            else:
                said = f"answered {self._status}: {body.decode(errors='replace')[:300]}"
                self._fail(RequestFailed(said, self._status, body))

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._buffer[:end]).lower()
        try:
            self._status = int(head[9:12])
            at = head.index(b"\r\ncontent-length:")
            length = int(head[at + 17 :].split(b"\r\n", 1)[0])
        except ValueError:
            length = -1
        if not 0 <= length <= MAX_RESPONSE_BYTES:
            self._fail(RequestFailed(f"not an HTTP/1.1 answer with a length: {head[:200]!r}"))
            self.close()
            return False
        self.keep = b"\r\nconnection: close" not in head
        self._body_at = end + 4
        self._needed = self._body_at + length
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.keep = False
        if self.answered and not self._buffer:
            self._fail(_Stale("the connection was closed while idle"))
        else:
            self._fail(RequestFailed(f"the connection was closed before the answer: {exc}"))

    def _finish(self, body: bytes) -> None:
        answer, self._answer = self._answer, None
        self.answered += 1
        if answer is not None and not answer.done():
            answer.set_result(body)

    def _fail(self, error: RequestFailed) -> None:
        answer, self._answer = self._answer, None
        self.answered += 1
        if answer is not None and not answer.done():
            answer.set_exception(error)

    def time_out(self, limit_s: float) -> None:
        self._fail(RequestFailed(f"no answer within {limit_s:g} s"))
        self.close()

    def close(self) -> None:
        self.keep = False
        if self.transport is not None:
            self.transport.close()


class GameClient:
    """Decisions and outcomes of one application, over at most `connections` connections.

    Use inside a running event loop, as an asynchronous context manager. Requests carry their own
    ids, so one that met a stale connection is sent again safely.

    Args:
        url: serving's address, such as `http://127.0.0.1:8080`.
        application: its name.
        settings: whose API keys are sent, where it has any.
    """

    def __init__(
        self,
        url: str,
        application: str,
        *,
        settings: Settings | None = None,
        connections: int = 64,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise BakehouseError(f"{url!r}: expected an address such as http://127.0.0.1:8080")
        self._host, self._port = parts.hostname, parts.port or 80
        self._limit, self._timeout_s = connections, timeout_s
        self._open: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._opening = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._sweeper: asyncio.Task[None] | None = None
        base = f"/v1/applications/{application}"
        self._heads = {
            route: (
                f"POST {base}/{route} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                f"{_authorization(settings, scope)}"
                "Content-Type: application/json\r\nContent-Length: "
            ).encode()
            for route, scope in ROUTES.items()
        }

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._sweeper = asyncio.create_task(self._sweep())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in self._open:
            connection.close()
        await asyncio.sleep(0)  # transports close in the loop's next round

    async def decide(self, request: dict[str, Any]) -> dict[str, Any]:
        """One decision. Raises RequestFailed."""
        answer: dict[str, Any] = await self._post("decisions", request)
        return answer

    async def decide_batch(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Several decisions, one result each, in order; one may be `{"problem": …}`."""
        answer = await self._post("decisions:batch", {"decisions": requests})
        return list(answer["decisions"] if isinstance(answer, dict) else answer)

    async def send_outcomes(self, outcomes: list[dict[str, Any]]) -> dict[int, Any]:
        """Several outcomes; returns the problems of those rejected, by index. Raises RequestFailed.

        Where all were rejected the answer is a 422 that lists them, and no failure of the request.
        """
        try:
            answer = await self._post("outcomes", {"outcomes": outcomes})
        except RequestFailed as error:
            if error.status != 422 or (answer := _listed(error.body)) is None:
                raise
        return {entry["index"]: entry["problem"] for entry in answer.get("rejected", ())}

    async def _post(self, route: str, value: Any) -> Any:
        body = orjson.dumps(value)
        data = b"%s%d\r\n\r\n%s" % (self._heads[route], len(body), body)
        while True:
            connection = await self._connection()
            answer: asyncio.Future[bytes] = self._loop.create_future()
            try:
                connection.send(data, answer, self._loop.time())
                return orjson.loads(await answer)
            except _Stale:
                continue
            except RequestFailed as error:
                if error.status not in (401, 403):
                    raise
                raise RequestFailed(f"{error}. {key_words(ROUTES[route])}", error.status) from None
            except orjson.JSONDecodeError as error:
                raise RequestFailed(f"the answer is not JSON: {error}") from None
            finally:
                self._give_back(connection)

    async def _connection(self) -> _Connection:
        while True:
            while self._idle:
                connection = self._idle.pop()
                if connection.is_open:
                    return connection
                self._open.discard(connection)
            if len(self._open) + self._opening < self._limit:
                return await self._connect()
            turn = self._loop.create_future()
            self._waiting.append(turn)
            try:
                async with asyncio.timeout(self._timeout_s):
                    await turn
            except TimeoutError:
                raise RequestFailed(
                    f"no connection was free for {self._timeout_s:g} s ({self._limit} in use)"
                ) from None

    async def _connect(self) -> _Connection:
        self._opening += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                _, connection = await self._loop.create_connection(
                    _Connection, self._host, self._port
                )
        except (OSError, TimeoutError) as error:
            self._wake_one()
            raise RequestFailed(f"cannot connect to {self._host}:{self._port}: {error}") from None
        finally:
            self._opening -= 1
        self._open.add(connection)
        return connection

    def _give_back(self, connection: _Connection) -> None:
        if connection.is_open:
            self._idle.append(connection)
        else:
            self._open.discard(connection)
        self._wake_one()

    def _wake_one(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def _sweep(self) -> None:
        """End requests that wait for ever."""
        while True:
            await asyncio.sleep(self._timeout_s / 10)
            now = self._loop.time()
            idle = set(self._idle)
            for connection in list(self._open):
                if connection not in idle and now - connection.sent_at > self._timeout_s:
                    connection.time_out(self._timeout_s)


def _listed(body: bytes) -> dict[str, Any] | None:
    """A refusal that says which entries were rejected; None where it is of the whole request."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return said if isinstance(said, dict) and said.get("rejected") else None


def _authorization(settings: Settings | None, scope: Scope) -> str:
    key = settings.key_to_send(scope) if settings is not None else None
    return "" if key is None else f"Authorization: Bearer {key}\r\n"
