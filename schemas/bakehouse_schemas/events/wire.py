"""Strict JSON: one parser behind every door, HTTP and Kafka alike.

Python's own parser lets through what other readers of the same bytes read differently: NaN,
numbers beyond float64 and int64, duplicate keys, lone surrogates, and nesting so deep that what
writes it again (orjson stops at 254) cannot. All of these are refused here.
"""

from __future__ import annotations

import json
import math
from typing import Any

from bakehouse_schemas.errors import InvalidEvent

MAX_DEPTH = 100  # of lists and objects in each other
_INT64 = 1 << 63


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.40} is beyond the range of a 64-bit float")
    return value


def _int64(text: str) -> int:
    if len(text) > 20 or not -_INT64 <= (value := int(text)) < _INT64:
        raise ValueError(f"{text:.40} is beyond the range of a 64-bit integer")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON; send a finite number, or leave the field out")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key!r:.60} stands twice in one object")
            seen.add(key)
    return found


def _check_depth(value: Any) -> None:
    level: list[Any] = [[value]]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return
    raise RecursionError


_DECODER = json.JSONDecoder(
    parse_float=_finite_float,
    parse_int=_int64,
    parse_constant=_no_constant,
    object_pairs_hook=_unique_keys,
)


def parse_json(body: bytes) -> Any:
    """The JSON value in `body`.

    Raises:
        InvalidEvent: not UTF-8, not JSON, or one of the above.
    """
    try:
        value = _DECODER.decode(body.decode())
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate fails here
        # fewer brackets than that cannot be too deep, and nearly every body has fewer
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
            _check_depth(value)
    except UnicodeError as error:
        raise InvalidEvent(f"the text is not valid UTF-8: {error}") from None
    except RecursionError:
        raise InvalidEvent(f"the JSON is nested too deeply: beyond {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise InvalidEvent(f"not valid JSON: {error}") from None
    return value


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`.

    Raises:
        InvalidEvent: as `parse_json`, or not an object.
    """
    value = parse_json(body)
    if type(value) is not dict:
        raise InvalidEvent(f"expected a JSON object, got {type(value).__name__}")
    return value
