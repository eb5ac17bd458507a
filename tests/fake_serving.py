"""A tiny HTTP server that answers as serving does, from memory."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bakehouse_schemas.events.events import DecisionRequest, OutcomeRequest
from bakehouse_schemas.events.validation import validated


class FakeServing:
    """Answers as serving does, from memory; `broken` makes it answer something else."""

    def __init__(self) -> None:
        self.decisions: list[dict[str, Any]] = []
        self.outcomes: list[dict[str, Any]] = []
        self.requests = 0
        self.closes_after = 0  # answers on a connection before it is closed without a word
        self.broken: Callable[[str], bytes | None] = lambda path: None

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answered = 0
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().split("content-length:")[1].split("\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                self.requests += 1
                path = head.split()[1]
                writer.write(self.broken(path) or self._answer(path, body))
                await writer.drain()
                answered += 1
                if answered == self.closes_after:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, path: str, body: dict[str, Any]) -> bytes:
        match path.rsplit("/", 1)[1]:
            case "decisions":
                return http(200, self._decide(body))
            case "decisions:batch":
                return http(200, {"decisions": [self._decide(one) for one in body["decisions"]]})
            case _:
                for outcome in body["outcomes"]:
                    validated(OutcomeRequest, outcome)
                self.outcomes += body["outcomes"]
                accepted = len(body["outcomes"])
                return http(202, {"accepted": accepted, "rejected": [], "notes": []})

    def _decide(self, body: dict[str, Any]) -> dict[str, Any]:
        validated(DecisionRequest, body)
        self.decisions.append(body)
        return {
            "decision_id": body["decision_id"],
            "action": "story" if "chapter" in body["context"] else "easy",
            "propensity": 0.5,
            "policy_version": len(self.decisions) // 10,
            "mode": "online",
            "cohort": "policy",
            "explored": False,
            "logged": True,
        }


def http(status: int, value: Any) -> bytes:
    body = json.dumps(value).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@contextmanager
def served(serving: FakeServing) -> Iterator[str]:
    """Its address, while it runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(serving, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
