"""What a cell of a studio's log may hold: each function gives a value, or what was expected."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from bakehouse_schemas.errors import InvalidEvent
from bakehouse_schemas.events.wire import parse_json
from bakehouse_schemas.numbers import is_finite

Checked = tuple[Any, str | None]  # the value; what was expected, None where it fits
_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)  # of at most 18 digits: within int64
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TRUTHS = {"true": True, "false": False}


def parsed_json(value: Any) -> Any:
    """JSON text as a value; None where it is none. What is no text is a value already."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value.encode())
    except InvalidEvent:
        return None


def json_object(came: Any) -> tuple[dict[str, Any], str | None]:
    """A context as JSON, by the parser that serving reads requests with; empty where it is none."""
    if came is None:
        return {}, None
    try:
        found = parse_json(came.encode()) if isinstance(came, str) else came
    except InvalidEvent as error:
        return {}, f"a JSON object; {error}"
    return (found, None) if isinstance(found, dict) else ({}, "a JSON object")


def typed(value: Any) -> Any:
    """A cell of a column of numbers, or of true and false: its text as what it says.

    Text that says neither a finite number nor true or false stays as it is, to be refused as it
    stands in the file.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if _WHOLE.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and is_finite(number := float(text)):
        return number
    return _TRUTHS.get(text.lower(), value)


def without_decimals(value: Any) -> Any:
    """A number of a DECIMAL column: whole where it is whole, else a float."""
    if not isinstance(value, Decimal):
        return value
    return int(value) if value == value.to_integral_value() else float(value)


def propensity(came: Any) -> Checked:
    """A probability above 0."""
    if not is_finite(came) or not 0 < came <= 1:
        return None, "a probability above 0 and at most 1, or nothing"
    return float(came), None


def density(came: Any) -> Checked:
    """A density above 0, of numbers."""
    if not is_finite(came) or came <= 0:
        return None, "a density above 0"
    return float(came), None


def number(came: Any) -> Checked:
    """A finite number; true is 1."""
    if isinstance(came, bool):
        return float(came), None
    if not is_finite(came):
        return None, "a finite number, true or false"
    return float(came), None


def boolean(came: Any) -> Checked:
    """True or false; 1 and 0 too."""
    if came in (True, False):  # 0 and 1 too
        return bool(came), None
    return None, "true or false"


def cohort(came: Any) -> Checked:
    """Who decided."""
    if came in ("policy", "holdout"):
        return str(came), None
    return None, "'policy' or 'holdout'"


def outcome_list(came: Any) -> Checked:
    """Outcomes as JSON."""
    listed = parsed_json(came)
    fits = isinstance(listed, list) and all(
        isinstance(one, dict)
        and isinstance(one.get("name"), str)
        and (one.get("value") is None or is_finite(one["value"]))
        and (one.get("after_s") is None or (is_finite(one["after_s"]) and one["after_s"] >= 0))
        for one in listed
    )
    if not fits:
        return None, 'a JSON list such as [{"name": "won", "value": 1.0, "after_s": 12.5}]'
    return listed, None


def time_ms(came: Any) -> Checked:
    """Milliseconds since 1970; a time without a zone is UTC."""
    expected = "a time such as 2026-11-24T10:30:00Z, or milliseconds since 1970"
    if isinstance(came, str) and _NUMBER.fullmatch(came.strip()):
        came = typed(came)  # of 13 digits ISO 8601 would make a day and an hour
    elif isinstance(came, str):
        try:
            came = datetime.fromisoformat(came)
        except ValueError:
            return None, expected
    if isinstance(came, datetime):
        at = came if came.tzinfo else came.replace(tzinfo=UTC)
        return round(at.timestamp() * 1000), None
    if is_finite(came) and 1e11 < came < 1e14:
        return int(came), None
    return None, expected
