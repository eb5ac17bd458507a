"""Which requests are let in: by their API key or, where no key is set, by their web page.

Where keys are set, every request but those for a few open pages shows one that has the scope it
needs. Where none is, serving listens on this machine alone (see `Settings.check_exposure`), and
the one stranger who still gets in is a web page in somebody's browser. Browsers name the page in
`Origin` with every POST, so one that comes from elsewhere is refused, whatever name it found this
server by.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from bakehouse_schemas.process.keys import SCOPES, ApiKey, Scope, is_loopback

OPEN_PAGES = frozenset({"/", "/livez", "/readyz", "/docs", "/openapi.json"})
OPEN_FOLDER = "/page/"  # files that every visitor of the page loads; no figure is among them
READS = frozenset({"GET", "HEAD", "OPTIONS"})
CHALLENGE = (b"www-authenticate", b"Bearer")

Headers = Sequence[tuple[bytes, bytes]]


class Refused(NamedTuple):
    """Why a request is not let in."""

    status: int
    detail: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Authenticator:
    """Lets a request in or refuses it, by its headers alone.

    Args:
        keys: none: everyone on this machine may do everything.
    """

    def __init__(self, keys: Sequence[ApiKey] = ()) -> None:
        self._known = [(_digest(key.secret.encode()), key.scopes) for key in keys]
        self.requires_key = bool(keys)

    def refuse(self, headers: Headers, scope: Scope | None) -> Refused | None:
        """None where the request may go on.

        Args:
            headers: names in lower case, as ASGI has them.
            scope: that its key needs; None: any key.
        """
        if self.requires_key:
            return self._check_key(headers, scope)
        for name, value in headers:
            if name == b"origin":
                return _check_origin(value)
        return None

    def refuse_beyond(self, method: str, path: str, headers: Headers) -> Refused | None:
        """The same for all that is not a hot route, by what a request would do.

        A page that is not known here needs a key too: one that is forgotten in this list is
        closed, not open.
        """
        if method not in READS:
            return self.refuse(headers, _scope_of(path))
        if not self.requires_key or path in OPEN_PAGES or path.startswith(OPEN_FOLDER):
            return None
        return self.refuse(headers, None)

    def _check_key(self, headers: Headers, scope: Scope | None) -> Refused | None:
        shown = next((value for name, value in headers if name == b"authorization"), None)
        if shown is None:
            return Refused(
                401, f"no API key came; {_expected(scope)} as `Authorization: Bearer KEY`", _ASK
            )
        kind, _, secret = shown.partition(b" ")
        if kind.lower() != b"bearer":
            return Refused(
                401, f"another kind of authorization came; {_expected(scope)} as `Bearer KEY`", _ASK
            )
        opened: frozenset[Scope] | None = None
        digest = _digest(secret.strip())
        for known, scopes in self._known:  # all of them: how long it takes tells nothing
            if hmac.compare_digest(digest, known):
                opened = scopes
        if opened is None:
            return Refused(401, f"the API key that came is not known; {_expected(scope)}", _ASK)
        if scope is not None and scope not in opened:
            held = ", ".join(one for one in SCOPES if one in opened)
            return Refused(403, f"the API key that came is for {held}; {_expected(scope)}")
        return None


_ASK = (CHALLENGE,)


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _expected(scope: Scope | None) -> str:
    return "expected any key" if scope is None else f"expected one with the scope {scope!r}"


def _scope_of(path: str) -> Scope:
    match path.rpartition("/")[2]:
        case "decisions" | "decisions:batch":
            return "decide"
        case "outcomes":
            return "outcome"
    return "admin"


def _check_origin(origin: bytes) -> Refused | None:
    try:
        host = urlsplit(origin.decode("ascii")).hostname
    except ValueError:  # UnicodeDecodeError is one
        host = None
    if host is not None and is_loopback(host):
        return None
    return Refused(
        403,
        f"a web page of {origin.decode('latin-1')!r:.80} sent this; where no API key is set, "
        "expected one that this machine serves. Set BAKEHOUSE_API_KEYS to let others in",
    )
