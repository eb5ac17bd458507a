"""Adds to a request's context what `bakehouse_schemas.application.hydration` says of its subject,
before it is decided.

A table is in memory, so it is looked up at once. Redis and functions are asked in threads, and a
decision waits for them no longer than their limit; then the default answers, and it is counted.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import orjson

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.hydration import FromRedis, FromTable, missing_packages
from bakehouse_schemas.application.observation import reader
from bakehouse_schemas.errors import InvalidContext, MissingDependency
from bakehouse_schemas.process.addresses import told
from bakehouse_serving.counters import Counters
from bakehouse_serving.hydration.table import Table

THREADS = 16
SLOW_IN_A_ROW = 5  # one that is slow now and then is no problem
MOST_WAITING = 256  # lookups; one more would not be answered within its limit either
Features = Mapping[str, Any]


class Hydrator(Protocol):
    """What the hot routes know of it."""

    def hydrate(self, context: dict[str, Any], subject_id: str) -> Awaitable[None] | None:
        """Complete `context` in place: now (None), or when what is returned has been awaited."""

    def state(self) -> dict[str, Any]:
        """For status."""

    def is_alive(self) -> bool:
        """Whether what runs in the background, if anything does, lives."""

    def start(self) -> None:
        """Before the first request."""

    def stop(self) -> None:
        """After the last."""


def hydrator_for(application: Application, counters: Counters) -> Hydrator | None:
    """What hydrates an application; None where nothing is to be looked up.

    Raises:
        MissingDependency: with what to install.
    """
    hydration = application.hydrate
    if hydration is None:
        return None
    assert not callable(hydration)  # the application has wrapped it
    if (missing := missing_packages(hydration)) is not None:
        raise MissingDependency(f"{application.name}: {missing}")
    merge = Merge(application, hydration.default, counters)
    if isinstance(hydration, FromTable):
        return FromMemory(Table(hydration), merge, counters)
    lookup = _redis(hydration) if isinstance(hydration, FromRedis) else hydration.function
    return InThreads(lookup, hydration.timeout.total_seconds(), merge, counters)


class Merge:
    """Puts what was found, and the default for the rest, where the game sent nothing."""

    def __init__(self, application: Application, default: Features, counters: Counters) -> None:
        self._readers = {feature.name: reader(feature) for feature in application.observation}
        self._default = dict(default)
        self._counters = counters

    def __call__(self, context: dict[str, Any], found: Features) -> None:
        usable = True
        for name, value in found.items():
            if value is not None and context.get(name) is None:
                if self._fits(name, value):
                    context[name] = value
                else:
                    usable = False
        self._counters.hydration_failed += not usable
        self.default(context)

    def default(self, context: dict[str, Any]) -> None:
        """Only the default."""
        for name, value in self._default.items():
            if context.get(name) is None:
                context[name] = value

    def _fits(self, name: str, value: Any) -> bool:
        """A source with a wrong value must not make requests invalid that are not at fault."""
        read = self._readers.get(name)
        if read is None:
            return _is_json(value)
        try:
            read({name: value})
        except InvalidContext:
            return False
        return True


def _is_json(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, (list, tuple)):
        return all(_is_json(one) for one in value)
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_json(one) for name, one in value.items())
    if isinstance(value, int):
        return -(1 << 63) <= value < 1 << 64
    return value is None or isinstance(value, str)


class FromMemory:
    """A table that is looked up in the request itself, and read again in the background."""

    def __init__(self, table: Table, merge: Merge, counters: Counters) -> None:
        self._table = table
        self._merge = merge
        self._counters = counters

    def hydrate(self, context: dict[str, Any], subject_id: str) -> None:
        row = self._table.row(subject_id)
        if row is None:
            self._counters.hydration_misses += 1
            self._merge.default(context)
        else:
            self._merge(context, row)

    def state(self) -> dict[str, Any]:
        return self._table.state()

    def is_alive(self) -> bool:
        return self._table.is_alive()

    def start(self) -> None:
        self._table.start()

    def stop(self) -> None:
        self._table.stop()


class InThreads:
    """A lookup that may block, asked in a thread, waited for no longer than `limit_s`."""

    def __init__(
        self,
        lookup: Callable[[Mapping[str, Any], str], Features | None],
        limit_s: float,
        merge: Merge,
        counters: Counters,
    ) -> None:
        self._lookup = lookup
        self._limit_s = limit_s
        self._merge = merge
        self._counters = counters
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="hydration")
        self._lock = threading.Lock()
        self._waiting = 0
        self._problem: str | None = None  # of the last lookup that came to an end
        self._slow = 0  # lookups in a row that did not, within the limit

    async def hydrate(self, context: dict[str, Any], subject_id: str) -> None:
        counters = self._counters
        with self._lock:
            admitted = self._waiting < MOST_WAITING
            self._waiting += admitted
        if not admitted:
            counters.hydration_timeouts += 1
            return self._merge.default(context)
        until = time.monotonic() + self._limit_s
        # its own copy: it may go on reading after the limit
        asked = asyncio.wrap_future(self._pool.submit(self._ask, dict(context), subject_id, until))
        asked.add_done_callback(_retrieve_error)
        # not cancelled at the limit: what is counted as waiting is what the threads still have
        await asyncio.wait([asked], timeout=self._limit_s)
        if not asked.done() or _came_too_late(asked):
            counters.hydration_timeouts += 1
            self._slow += 1
            if self._slow >= SLOW_IN_A_ROW:
                self._problem = f"no answer within {self._limit_s:g} s, {self._slow} times in a row"
            return self._merge.default(context)
        self._slow = 0
        if (error := asked.exception()) is not None:  # a player is answered all the same
            self._problem = told(error)[:200]
            counters.hydration_failed += 1
            return self._merge.default(context)
        found = asked.result()
        self._problem = None
        if found is None:
            counters.hydration_misses += 1
            return self._merge.default(context)
        if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
            self._problem = f"expected names and values, got {found!r:.100}"
            counters.hydration_failed += 1
            return self._merge.default(context)
        return self._merge(context, found)

    def _ask(self, context: Features, subject_id: str, until: float) -> Features | None:
        try:
            if time.monotonic() > until:  # nobody waits any more
                raise _TooLate
            return self._lookup(context, subject_id)
        finally:
            with self._lock:
                self._waiting -= 1

    def state(self) -> dict[str, Any]:
        return {"waiting": self._waiting, "problem": self._problem}

    def is_alive(self) -> bool:
        return True  # its threads have no work but what they are asked

    def start(self) -> None:
        pass

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class _TooLate(Exception):
    """A thread was free only after the limit; nothing was looked up."""


def _came_too_late(asked: asyncio.Future[Any]) -> bool:
    return isinstance(asked.exception(), _TooLate)


def _retrieve_error(asked: asyncio.Future[Any]) -> None:
    """Retrieve an error that comes after the limit, lest asyncio logs it."""
    if not asked.cancelled():
        asked.exception()


def _redis(hydration: FromRedis) -> Callable[[Mapping[str, Any], str], Features | None]:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    limit_s = hydration.timeout.total_seconds()
    client = Redis.from_url(
        hydration.url,
        socket_timeout=limit_s,  # frees the thread; the decision has gone on by then
        socket_connect_timeout=limit_s,
        retry=Retry(NoBackoff(), 0),
        max_connections=THREADS,
    )
    prefix, columns = hydration.prefix, hydration.columns

    def lookup(_: Mapping[str, Any], subject_id: str) -> Features | None:
        kept = client.get(prefix + subject_id)
        if kept is None:
            return None
        found = orjson.loads(kept)
        if columns is None or not isinstance(found, dict):
            return found  # type: ignore[no-any-return]  # checked by whoever asked
        return {name: found[name] for name in columns if name in found}

    return lookup
