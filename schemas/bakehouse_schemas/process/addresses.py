"""How is an address told without the secrets in it?

An address of a store may carry a user, a password or a key, before its host or in its query. What
is logged, printed or shown goes through here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

NOT_SHOWN = "***"
_SCHEME = r"\b[a-z][a-z0-9+.-]*:/{2,3}"
_USER = re.compile(rf"(?i)({_SCHEME})[^/\s\"']*@")
# SQLAlchemy and others take a password with a slash in it; on the web that is where the path begins
_DATABASES_USER = re.compile(
    rf"(?i)((?!\b(?:https?|s3a?|gs|az|abfss?|file|sqlite):){_SCHEME})[^/\s\"'@:]*:[^\s\"']*@"
)
_SECRET = re.compile(
    r"(?i)([?&;][^=&;?\s\"']*"
    r"(?:pass|pwd|secret|token|key|sig|credential|auth|odbc_connect)[^=&;?\s\"']*=)[^&\s\"']*"
)


def without_secrets(address: str) -> str:
    """An address without its user, password and query, any of which may be a secret."""
    try:
        shown = text_without_secrets(address)
        parts = urlsplit(shown)
        if not parts.scheme or not (parts.netloc or parts.query):
            return shown
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "", ""))
    except ValueError:
        return "an address that cannot be read"


def text_without_secrets(text: str) -> str:
    """A text in which addresses may stand, such as an error's, without what opens their doors."""
    if "://" not in text:
        return text
    for user in (_USER, _DATABASES_USER):
        text = user.sub(r"\1", text)
    return _SECRET.sub(rf"\g<1>{NOT_SHOWN}", text)


def value_without_secrets(value: Any) -> Any:
    """The same of all texts in what JSON can say."""
    if isinstance(value, str):
        return text_without_secrets(value)
    if isinstance(value, Mapping):
        return {name: value_without_secrets(its) for name, its in value.items()}
    if isinstance(value, list | tuple):
        return [value_without_secrets(one) for one in value]
    return value


def told(error: BaseException) -> str:
    """An exception's type and text, for a status: its text may quote an address."""
    return f"{type(error).__name__}: {text_without_secrets(str(error))}"
