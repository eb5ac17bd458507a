"""The body of a request to a route for people, no larger than it may be."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.exceptions import HTTPException

from bakehouse_schemas.events.wire import parse_object


async def object_of(request: Request, *, most_bytes: int) -> dict[str, Any]:
    """The JSON object that came; an empty one where nothing did.

    Raises:
        HTTPException: 413, as soon as more than `most_bytes` have come.
        InvalidEvent: it is no JSON object.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most_bytes:
            raise HTTPException(413, f"the body is larger than {most_bytes} bytes")
    return parse_object(bytes(body) or b"{}")
