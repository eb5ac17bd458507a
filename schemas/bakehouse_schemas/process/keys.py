"""API keys as settings name them: `decide+outcome:KEY,admin:KEY`.

A key is a secret, so no message here repeats any of what came: it names the entry by its place.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

Scope = Literal["decide", "outcome", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
LEAST_SECRET = 16
KEY_PATTERN = r"^[A-Za-z0-9\-._~+/]+=*$"  # what a Bearer header may carry (RFC 6750)
_EXPECTED = "expected decide+outcome:KEY,admin:KEY"


class ApiKey(NamedTuple):
    """One secret, and what it opens."""

    scopes: frozenset[Scope]
    secret: str

    def __repr__(self) -> str:
        return f"ApiKey({'+'.join(scope for scope in SCOPES if scope in self.scopes)}:…)"


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """The keys of a setting, in order.

    Raises:
        ValueError: saying which entry cannot be used and what was expected, without the secret.
    """
    keys: list[ApiKey] = []
    for number, entry in enumerate(text.split(","), start=1):
        named, colon, secret = entry.strip().partition(":")
        scopes = frozenset(scope for scope in SCOPES if scope in named.split("+"))
        if not colon:
            raise ValueError(f"entry {number} has no ':' between scopes and key; {_EXPECTED}")
        if len(scopes) != len(named.split("+")):
            raise ValueError(
                f"entry {number} has something else than scopes before its ':'; expected one or "
                f"more of {', '.join(SCOPES)}, joined by '+'"
            )
        if not re.fullmatch(KEY_PATTERN.strip("^$"), secret):
            raise ValueError(
                f"entry {number}: a key has letters, digits and - . _ ~ + / alone, and this one "
                "is empty or has another sign; make one with `openssl rand -hex 24`"
            )
        if len(secret) < LEAST_SECRET:
            raise ValueError(
                f"entry {number}: the key has {len(secret)} signs, expected at least "
                f"{LEAST_SECRET}; make one with `openssl rand -hex 24`"
            )
        for earlier, key in enumerate(keys, start=1):
            if key.secret == secret:
                raise ValueError(
                    f"entries {earlier} and {number} are the same key; write its scopes in one "
                    "entry, joined by '+'"
                )
        keys.append(ApiKey(scopes, secret))
    return tuple(keys)


def key_for(keys: Sequence[ApiKey], scope: Scope | None) -> str | None:
    """The first key that opens `scope` (None: that opens anything), if there is one."""
    return next((key.secret for key in keys if scope is None or scope in key.scopes), None)


def is_loopback(host: str) -> bool:
    """Whether an address, or a host as a URL names it, is this machine alone.

    A name other than localhost is not: who answers for it is decided elsewhere.
    """
    bare = host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return bare.lower() == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
