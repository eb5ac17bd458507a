"""RFC 9457 problems: what came, what was expected, what remains true."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson

MEDIA_TYPE = "application/problem+json"
NOTHING_CHANGED = "nothing was recorded; the request may be corrected and sent again"


def problem(status: int, detail: str, *, remains: str = NOTHING_CHANGED) -> dict[str, Any]:
    """The body of a problem."""
    title = HTTPStatus(status).phrase
    return {
        "type": f"urn:bakehouse:problem:{title.lower().replace(' ', '-')}",
        "title": title,
        "status": status,
        "detail": detail,
        "remains": remains,
    }


def problem_bytes(status: int, detail: str, *, remains: str = NOTHING_CHANGED) -> bytes:
    """The same, as JSON."""
    return orjson.dumps(problem(status, detail, remains=remains))
