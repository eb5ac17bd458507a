"""The files of the dashboard at `/`, and of `/docs`: read once, sent with a strict policy.

They are in `serving/bakehouse_serving/dashboard/page/`, shipped in the wheel: HTML, CSS and ES
modules as written, no build step. What a game sends reaches the dashboard through the API as data,
and the policy below refuses whatever would make code of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

FOLDER = Path(__file__).with_name("page")
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
    "": "text/plain; charset=utf-8",  # the licences beside what they cover
}
# Own files alone, nothing inline, no HTML made of text, and nobody's frame around it.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'; require-trusted-types-for 'script'"
)
# Swagger UI's style holds its icons as images in the text; and it makes HTML, cleaned by itself,
# which `docs.js` lets it.
DOCS_POLICY = f"{CONTENT_SECURITY_POLICY}; img-src 'self' data:"
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # kept, and asked for again by its ETag
}


@dataclass(frozen=True)
class StaticFile:
    """One file as it is sent."""

    body: bytes
    media_type: str
    etag: str


def read_files(folder: Path = FOLDER) -> dict[str, StaticFile]:
    """All files of the dashboard by their path below `folder`, with `/` between its parts."""
    return dict(_read(folder))


def _read(folder: Path) -> Iterator[tuple[str, StaticFile]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in MEDIA_TYPES:
            body = path.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            yield (
                path.relative_to(folder).as_posix(),
                StaticFile(body, MEDIA_TYPES[path.suffix], etag),
            )


def add_static_files(app: FastAPI) -> None:
    """`GET /`, `GET /docs` and `GET /page/{file}`."""
    files = read_files()

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return _answer(files, "index.html", request)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        answer = _answer(files, "docs.html", request)
        answer.headers["Content-Security-Policy"] = DOCS_POLICY
        return answer

    @app.get("/page/{file:path}", include_in_schema=False)
    async def page(file: str, request: Request) -> Response:
        return _answer(files, file, request)


def _answer(files: Mapping[str, StaticFile], name: str, request: Request) -> Response:
    found = files.get(name)
    if found is None:
        raise HTTPException(404, "the page has no such file")
    headers = {**HEADERS, "ETag": found.etag}
    known = request.headers.get("if-none-match", "")
    if any(one.strip().removeprefix("W/") == found.etag for one in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(found.body, media_type=found.media_type, headers=headers)
