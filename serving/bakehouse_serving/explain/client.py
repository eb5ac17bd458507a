"""Serving's side of `python -m bakehouse_serving.explain`: a process that runs while somebody asks.

Tables are read over there, so that neither their libraries nor their work are in the process that
answers players.
"""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import anyio
import orjson
from anyio import to_thread

from bakehouse_schemas.process.settings import ENVIRONMENT_PREFIX, SECRETS, Settings

log = logging.getLogger(__name__)
LIMIT_S = 15.0  # of one question, the process's start on a busy machine included
MOST_ASKING = 2  # questions: one that is answered, one that waits for it
STOP_S = 2.0


class Answered(NamedTuple):
    """A status of HTTP, and the explanation or `{"detail"}`."""

    status: int
    body: dict[str, Any]


class ExplainerClient:
    """Asks the process that explains decisions, and starts it where none runs.

    Any thread may call `ask`.

    Args:
        refs: the applications, as serving was given them.
        limit_s: how long a question may take, its wait for others included.
    """

    def __init__(
        self, settings: Settings, refs: Sequence[str], *, limit_s: float = LIMIT_S
    ) -> None:
        self._refs = refs
        self._command = [sys.executable, "-m", "bakehouse_serving.explain", *refs]
        self._environment = _environment(settings)
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._threads = anyio.CapacityLimiter(MOST_ASKING)  # of its own: nobody else waits for them
        self._asking = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    @property
    def process_id(self) -> int | None:
        """Of the process, None where none runs."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    async def answer(self, application: str, decision_id: str) -> Answered:
        """`ask`, from the event loop; at once where `MOST_ASKING` others ask already."""
        if self._asking >= MOST_ASKING:
            return Answered(429, {"detail": "other decisions are being explained; ask again"})
        self._asking += 1
        try:
            return await to_thread.run_sync(
                self.ask, application, decision_id, limiter=self._threads
            )
        finally:
            self._asking -= 1

    def ask(self, application: str, decision_id: str) -> Answered:
        """The explanation, or why there is none. Takes as long as it takes, `limit_s` at most."""
        if find_spec("deltalake") is None or find_spec("pyarrow") is None:
            return Answered(
                501,
                {
                    "detail": "explaining decisions needs the tables' libraries, which are not "
                    "installed where serving runs: pip install 'bakehouse[explain]'"
                },
            )
        if not self._refs:
            return Answered(501, {"detail": "no application is named here to explain decisions of"})
        deadline = time.monotonic() + self._limit_s
        if not self._lock.acquire(timeout=self._limit_s):
            return Answered(503, {"detail": "other decisions are being explained; ask again"})
        try:
            question = {"application": application, "decision_id": decision_id}
            return self._ask(orjson.dumps(question) + b"\n", deadline)
        finally:
            self._lock.release()

    def stop(self) -> None:
        """End the process; none is started any more."""
        self._stopped = True
        if (process := self._process) is not None:
            process.kill()  # whoever waits for its answer hears that it ended
        with self._lock:
            self._end()

    def _ask(self, question: bytes, deadline: float) -> Answered:
        for _ in range(2):  # it may have ended for want of questions just now
            line = self._exchange(question, deadline)
            if line is None:  # over time
                self._end()
                took = f"{self._limit_s:g} s"
                return Answered(504, {"detail": f"no explanation came within {took}; ask again"})
            if line:
                answer = orjson.loads(line)
                return Answered(answer["status"], answer["body"])
            self._end()
            if self._stopped:
                break
        detail = "the process that explains decisions ended; what it said is in serving's log"
        return Answered(503, {"detail": detail})

    def _exchange(self, question: bytes, deadline: float) -> bytes | None:
        """The line that answers, empty where the process has ended, None where time is over."""
        if self._stopped:
            return b""
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(question)
            process.stdin.flush()
        except BrokenPipeError:
            return b""
        line, answering = b"", select.poll()  # `select` knows no handle beyond 1,023
        answering.register(process.stdout, select.POLLIN)
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not answering.poll(1000 * left):
                return None
            part = os.read(process.stdout.fileno(), 1 << 16)
            if not part:
                return b""
            line += part
        return line

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            # it ends when its input does, so none outlives this process, however it dies
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env=self._environment,
            )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait(STOP_S)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def _environment(settings: Settings, of: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Settings without secrets: tables and bundles need none of them."""
    needless = (*SECRETS, "mlflow_uri", "trace_endpoint")
    secret = {ENVIRONMENT_PREFIX + name.upper() for name in needless}
    found = dict(of) | settings.as_environment()
    return {name: value for name, value in found.items() if name not in secret}
