"""Inputs that are JSON documents, changed as documents: another value here, a key more there.

Flipping bytes alone spends nearly every run on text that is not JSON. Half of the changes are of
bytes all the same: what is not JSON must be refused too.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    3,
    255,
    65_536,
    (1 << 31) - 1,
    1 << 32,
    (1 << 53) + 1,
    (1 << 63) - 1,
    -(1 << 63),
    1 << 64,
    10**30,
    0.0,
    -0.0,
    0.5,
    1.0,
    1.0000001,
    1e-320,
    1e-6,
    3.5e38,
    1.7e308,
    float("nan"),
    float("inf"),
    "",
    "a",
    "\ud800",
    "\x00",
    "..",
    "next:x",
    "é" * 150,
    "x" * 250,
    [],
    {},
    [0.5],
    [[]],
    {"": {}},
    {"a": 1},
)
Path = tuple[Any, ...]


def mutate_document(
    data: bytes,
    size: int,
    random: Random,
    bytewise: Callable[[bytes, int], bytes],
    words: tuple[Any, ...],
    seeds: list[bytes],
) -> bytes:
    """Another input near `data`, of at most `size` bytes.

    Args:
        bytewise: libFuzzer's own mutation, with the comparisons that it has seen.
        words: values that mean something to the target, to be put in beside the odd ones.
        seeds: valid inputs. Every third change is of one of these: what is kept for its coverage
            is mostly refused early, and then hides what a change further in would do.
    """
    if random.random() < 0.35:
        data = random.choice(seeds)
    if random.random() < 0.3:
        return bytewise(data, size)
    try:
        document = json.loads(data)
        for _ in range(1 + int(random.expovariate(1.0))):
            document = _changed(document, random, words)
    except (ValueError, RecursionError):  # no document, or one too deep to be copied
        return bytewise(data, size)
    try:
        # a lone surrogate can be written as an escape only
        text = json.dumps(document, ensure_ascii=random.random() < 0.5).encode()
    except UnicodeEncodeError:
        text = json.dumps(document).encode()
    except RecursionError:
        return bytewise(data, size)
    return text if len(text) <= size else bytewise(data, size)


def _changed(document: Any, random: Random, words: tuple[Any, ...]) -> Any:
    places = list(_places(document))
    path = random.choice(places)
    old = _at(document, path)
    change = random.randrange(8)
    if change <= 1:
        return _put(document, path, copy.deepcopy(random.choice(ODD)))
    if change == 2 and words:
        return _put(document, path, copy.deepcopy(random.choice(words)))
    if change == 3:  # a value from elsewhere in the document
        return _put(document, path, copy.deepcopy(_at(document, random.choice(places))))
    if change == 4:
        deep: Any = old
        for _ in range(random.choice((1, 2, 98, 100, 253, 400))):
            deep = [deep] if random.random() < 0.5 else {"a": deep}
        return _put(document, path, deep)
    if change == 5 and isinstance(old, (list, dict)) and old:  # one fewer
        if isinstance(old, list):
            old.pop(random.randrange(len(old)))
        else:
            del old[random.choice(list(old))]
        return document
    if change == 6 and isinstance(old, (list, dict)):  # one more, or one twice
        if isinstance(old, list):
            more = random.choice([*old, *ODD])
            old.insert(random.randrange(len(old) + 1), copy.deepcopy(more))
        else:
            keys = [word for word in (*words, *ODD) if isinstance(word, str)]
            old[random.choice(keys)] = copy.deepcopy(random.choice(ODD))
        return document
    if isinstance(old, bool) or old is None:
        return _put(document, path, not old)
    if isinstance(old, (int, float)):
        factor = random.choice((-1, 0, 0.5, 2, 10, 1e9))
        return _put(document, path, random.choice((old + 1, old - 1, old * factor)))
    if isinstance(old, str):
        at = random.randrange(len(old) + 1)
        piece = random.choice(("", "a", "-", "/", "\n", "\ud800", "9", "é"))
        return _put(document, path, old[:at] + piece + old[at + random.randrange(2) :])
    return _put(document, path, copy.deepcopy(random.choice(ODD)))


def _places(document: Any, path: Path = ()) -> Iterator[Path]:
    yield path
    if len(path) >= 12:
        return
    if isinstance(document, dict):
        for key, inner in document.items():
            yield from _places(inner, (*path, key))
    elif isinstance(document, list):
        for at, inner in enumerate(document):
            yield from _places(inner, (*path, at))


def _at(document: Any, path: Path) -> Any:
    for step in path:
        document = document[step]
    return document


def _put(document: Any, path: Path, value: Any) -> Any:
    if not path:
        return value if isinstance(value, dict) else document
    _at(document, path[:-1])[path[-1]] = value
    return document
