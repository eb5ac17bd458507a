"""Bodies and records that grow, through every door: what a byte costs does not grow with them.

An input says which door, what grows in a valid body, where, and what it is made of. It is made
twice, small and sixteen times as large, and the CPU time of both is compared.

Must hold: sixteen times the bytes cost sixteen times the time, give or take the factor `SLACK`;
and nothing but a refusal is raised.
"""

from __future__ import annotations

import gc
import itertools
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.errors import InvalidEvent
from bakehouse_schemas.events import wire
from bakehouse_schemas.events.events import Control, PolicyPointer, Progress, Status
from bakehouse_schemas.events.validation import validated
from bakehouse_schemas.events.wire import parse_object
from bakehouse_serving.control_routes import ControlRequest
from bakehouse_serving.hot.decision_steps import DecisionSteps
from bakehouse_serving.hot.decisions import Decisions
from bakehouse_serving.hot.idempotency import IdempotencyCache
from bakehouse_serving.hot.outcomes import Outcomes
from bakehouse_serving.hot.route import Route
from bakehouse_serving.policies.served import Served
from bakehouse_serving.spool.frames import Record as Spooled
from bakehouse_stream.kafka.decode import Decoder, Record
from tests.faults.fuzz import events
from tests.faults.fuzz.choices import Choices
from tests.faults.fuzz.events import APPLICATIONS, FIRST, NOW_MS, TOPIC

SMALL_BYTES = 4 << 10
TIMES = 16
SLACK = 4.0  # a square would show as a factor of 16
LEAST_S = 0.02  # what takes less than this holds nobody up, however it grew
AGAIN = 4  # an input is blamed where the best of so many more says the same

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-cost-"))
DECODER = Decoder(APPLICATIONS, TOPIC)


class Nowhere:
    """A log that keeps nothing."""

    def append(self, records: list[Spooled], *, always: bool = False) -> None:
        pass


def _route(application: Application) -> Route:
    served = Served(application, policies=FOLDER, cache=FOLDER / f"{application.name}.json")
    return Route(served, IdempotencyCache(application.actions, folder=None, span_s=600, most=1_000))


_COMMON: dict[str, Any] = {
    "spool": Nowhere(),
    "clock": lambda: NOW_MS / 1000,
    "most_record_bytes": 1 << 20,
    "tracer": None,
}
DECISIONS = Decisions(DecisionSteps(draw=lambda: 0.5, **_COMMON))
OUTCOMES = Outcomes(**_COMMON)
ROUTES = {name: _route(application) for name, application in APPLICATIONS.items()}


def _hot(handle: Callable[..., Any], name: str) -> Callable[[bytes], None]:
    def feed(body: bytes) -> None:
        reply = handle(ROUTES[name], body, ())
        if isinstance(reply, Awaitable):
            for _ in reply.__await__():
                pass  # others had their turn

    return feed


def _model(model: Any) -> Callable[[bytes], None]:
    def feed(body: bytes) -> None:
        validated(model, parse_object(body))

    return feed


def _decoded(topic: str) -> Callable[[bytes], None]:
    def feed(body: bytes) -> None:
        DECODER.single(Record(topic, 0, 7, NOW_MS, b"key", body))

    return feed


ITEMS = [{"id": name, "price": 3} for name in "abc"]
ASKED: dict[str, dict[str, Any]] = {
    "shop": {"subject_id": "p", "context": {"days": [1, 2.5]}, "eligible_actions": ["a", "b"]},
    "look": {"subject_id": "p", "context": {"skill": 0.5}, "baseline_action": {"size": "s"}},
    "shelf": {"subject_id": "p", "context": {"skill": 0.5}, "items": ITEMS},
}
CAME = {"decision_id": FIRST, "name": "bought", "value": 1.5, "payload": {"level": 7}}
DONE = {"decision_id": FIRST, "kind": "executed", "executed_action": ["a", "b"]}
POINTER = {"application": "shop", "version": 3, "published_at_ms": NOW_MS}
PROGRESS = {
    "stream_time_ms": NOW_MS,
    "replay_version": 3,
    "committed": {"decisions": {"0": 7}},
    "applied_ms": NOW_MS,
}
STATUS = {"part": "stream", "process": "0", "at_ms": NOW_MS, "account": {"received": 3}}
Door = tuple[dict[str, Any], Callable[[bytes], None]]
DOORS: list[Door] = [
    *((ASKED[name], _hot(DECISIONS.decide, name)) for name in APPLICATIONS),
    *(({"decisions": [ASKED[name]]}, _hot(DECISIONS.decide_batch, name)) for name in APPLICATIONS),
    *(
        ({"outcomes": [one]}, _hot(OUTCOMES.take, name))
        for name in APPLICATIONS
        for one in (CAME, DONE)
    ),
    *(
        (json.loads(one), _decoded(TOPIC))
        for one in (
            events.decision(),
            events.decision(**events.LOOKED),
            events.decision(**events.SHELVED),
        )
    ),
    (json.loads(events.outcome()), _decoded("outcomes")),
    ({"by": "anna", "why": "a bug"}, _model(ControlRequest)),
    ({"application": "shop", "at_ms": NOW_MS, "killed": True}, _model(Control)),
    (POINTER, _model(PolicyPointer)),
    (PROGRESS, _model(Progress)),
    (STATUS, _model(Status)),
]

# What a list or an object is made of; `i` is the number of the entry.
UNITS: tuple[Callable[[int], str], ...] = (
    lambda i: "1",
    lambda i: '"a"',
    lambda i: f'"{i:x}"',
    lambda i: f"{i}",
    lambda i: f"{i}.5",
    lambda i: "null",
    lambda i: "{}",
    lambda i: "[]",
    lambda i: "[[[[]]]]",
    lambda i: f'{{"id":"{i:x}"}}',
    lambda i: f'{{"id":"{i:x}","price":3}}',
    lambda i: f'{{"decision_ie":1,"namf":{i}}}',
    lambda i: json.dumps(ASKED["shop"] | {"subject_id": f"{i:x}"}),
    lambda i: json.dumps(CAME | {"outcome_id": f"{i:x}"}),
)
PIECES = ("a", "é", "\\u00e9", "\\ud83d\\ude00", "\\n", "\\\\", "=", "/")
DIGITS = ("7", "0.7", "7.7e", "7e-", "-7")


def _until(size: int, unit: Callable[[int], str]) -> Iterator[str]:
    for i in itertools.count():
        if size <= 0:
            return
        made = unit(i)
        size -= len(made) + 1
        yield made


def members(unit: Callable[[int], str], twice: bool, size: int) -> str:
    """Members of an object of about `size` bytes; `twice`: the last but one comes again."""
    made = list(_until(size, lambda i: f'"{i:x}":{unit(i)}'))
    return ",".join(made + made[-2:-1] * twice)


def value(kind: int, which: int, size: int) -> str:
    """A value of about `size` bytes, as JSON."""
    unit = UNITS[which % len(UNITS)]
    match kind % 6:
        case 0:
            return f"[{','.join(_until(size, unit))}]"
        case 1 | 2:
            return f"{{{members(unit, kind % 6 == 2, size)}}}"
        case 3:
            return f'"{PIECES[which % len(PIECES)] * size}"'
        case 4:
            return DIGITS[which % len(DIGITS)] + "7" * size
        case _:
            return " " * size + "0"


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every value in a document."""
    yield path
    if isinstance(document, (dict, list)):
        for key, one in document.items() if isinstance(document, dict) else enumerate(document):
            yield from places(one, (*path, key))


MARK, SPREAD = "\x01value", "\x01members"


def grown(choices: Choices, document: dict[str, Any]) -> Callable[[int], bytes]:
    """Bodies of a size, as the input says."""
    where = list(places(document))
    path = where[choices.byte() % len(where)]
    kind, which = choices.byte(), choices.byte()
    spread = choices.byte() % 3
    document = json.loads(json.dumps(document))
    at: Any = document
    for step in path[:-1]:
        at = at[step]
    inside = at[path[-1]] if path else document
    if isinstance(inside, dict) and (spread or not path):
        inside[SPREAD] = 0
    elif isinstance(inside, list) and spread:
        inside.append(MARK)
    else:
        at[path[-1]] = MARK
    text = json.dumps(document)
    mark, members_mark = json.dumps(MARK), f"{json.dumps(SPREAD)}: 0"

    def made(size: int) -> bytes:
        if members_mark in text:
            unit = UNITS[which % len(UNITS)]
            return text.replace(members_mark, members(unit, kind % 2 == 1, size)).encode()
        fresh = value(kind, which, size)
        if isinstance(inside, list) and spread and kind % 6 == 0:
            fresh = fresh[1:-1]  # more entries of the same list
        return text.replace(mark, fresh).encode()

    return made


def took_s(feed: Callable[[bytes], None], body: bytes) -> float:
    """CPU seconds of one body."""
    gc.disable()  # a collection would count against whoever it happens to
    began = time.thread_time()
    try:
        feed(body)
    except InvalidEvent as refusal:
        assert str(refusal)
    finally:
        took = time.thread_time() - began
        gc.enable()
    return took


def grew(small_s: float, large_s: float) -> bool:
    """Whether sixteen times the bytes cost far more than sixteen times the time."""
    return large_s > LEAST_S and large_s > SLACK * TIMES * small_s


def compare(feed: Callable[[bytes], None], made: Callable[[int], bytes]) -> None:
    """Feed a body of two sizes; AssertionError where the larger costs too much."""
    small, large = made(SMALL_BYTES), made(SMALL_BYTES * TIMES)
    small_s, large_s = took_s(feed, small), took_s(feed, large)
    if not grew(small_s, large_s):
        return
    # once is chance: somebody else's work, a first call
    small_s = min(took_s(feed, small) for _ in range(AGAIN))
    large_s = min(took_s(feed, large) for _ in range(AGAIN))
    assert not grew(small_s, large_s), (
        f"{len(small)} bytes took {small_s:.4f} s, {len(large)} took {large_s:.4f} s: "
        f"{large[:120]!r}…"
    )


def check(data: bytes) -> None:
    """See the module."""
    choices = Choices(data)
    document, feed = DOORS[choices.byte() % len(DOORS)]
    compare(feed, grown(choices, document))


def seeds() -> list[bytes]:
    """Each door, with more and more members in its body."""
    return [bytes([door, 0, 0, 0, 0]) for door in range(len(DOORS))]


def plant() -> None:
    """Each key of an object is looked for among all of its keys."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(dict(pairs)) != len(pairs):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"the key {twice!r:.60} stands twice in one object")
        return dict(pairs)

    wire._DECODER = json.JSONDecoder(parse_int=wire._int64, object_pairs_hook=unique)
