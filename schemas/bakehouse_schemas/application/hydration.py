"""Hydration: features that serving looks up by subject, when the game asks for a decision.

Only what is looked up, where, and how long that may take;
`serving/bakehouse_serving/hydration/lookup.py` does it. What was used stands in the logged context,
so training sees what serving saw.

What the game sent wins over what is looked up under the same name; null counts as not sent, as it
does for the encoder. What is not found, or cannot be used, is the `default`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

from bakehouse_schemas.application.observation import Encoder, Feature
from bakehouse_schemas.errors import ApplicationError, InvalidContext
from bakehouse_schemas.numbers import in_short, is_text
from bakehouse_schemas.process.addresses import without_secrets

Lookup = Callable[[Mapping[str, Any], str], Mapping[str, Any]]
MOST_WAIT = timedelta(seconds=5)


@dataclass(frozen=True)
class FromTable:
    """Columns of a Parquet file, a folder of them, or a Delta table, held in memory.

    Args:
        uri: a path or the address of an object store.
        key: the column with the subject; of several rows with one key the last counts.
        columns: what becomes part of the context: numbers, booleans, texts, lists of numbers.
        refresh: how often it is looked at again, in the background.
        default: for a subject that is not in it, and for null.
    """

    uri: str = field(repr=False)  # it may hold a password
    key: str
    columns: Sequence[str]
    refresh: timedelta = timedelta(minutes=5)
    default: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_text(self.uri, 2_000) or not is_text(self.key):
            raise ApplicationError(
                f"FromTable({in_short(self.uri)}, key={in_short(self.key)}): expected a path or "
                "address, and the name of the column with the subject, such as key='subject_id'"
            )
        object.__setattr__(self, "columns", _names("FromTable", self.columns))
        _check_duration("FromTable", "refresh", self.refresh, None)
        _check_default("FromTable", self.default)

    @property
    def extra(self) -> tuple[str, tuple[str, ...]]:
        """The optional dependency that reads it, and its packages."""
        return "hydration", ("pyarrow", "deltalake")

    def words(self) -> str:
        """For people."""
        return (
            f"{', '.join(self.columns)} of each subject from {without_secrets(self.uri)}, looked "
            f"at again every {self.refresh.total_seconds():g} seconds"
        )


@dataclass(frozen=True)
class FromRedis:
    """The JSON object under `<prefix><subject>` in Redis.

    Args:
        url: such as `redis://cache:6379/0`, or `rediss://` with TLS.
        prefix: of the keys.
        columns: the fields taken of it; None: all.
        timeout: how long a decision waits for it at most.
        default: where there is no such key, where Redis is slow or away, and for null.
    """

    url: str = field(repr=False)  # it may hold a password
    prefix: str = ""
    columns: Sequence[str] | None = None
    timeout: timedelta = timedelta(seconds=0.01)
    default: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.url, str) or not self.url.startswith(
            ("redis://", "rediss://", "unix://")
        ):
            raise ApplicationError(
                f"FromRedis({in_short(self.url)}): expected an address such as "
                "'redis://127.0.0.1:6379/0'"
            )
        if not isinstance(self.prefix, str):
            raise ApplicationError(f"FromRedis(prefix={in_short(self.prefix)}): expected a text")
        if self.columns is not None:
            object.__setattr__(self, "columns", _names("FromRedis", self.columns))
        _check_duration("FromRedis", "timeout", self.timeout, MOST_WAIT)
        _check_default("FromRedis", self.default)

    @property
    def extra(self) -> tuple[str, tuple[str, ...]]:
        """The optional dependency that reads it, and its packages."""
        return "redis", ("redis",)

    def words(self) -> str:
        """For people; without what may be a password."""
        taken = ", ".join(self.columns) if self.columns else "all fields"
        return f"{taken} of {self.prefix}<subject> in Redis, {_limit_words(self.timeout)}"


@dataclass(frozen=True)
class FromFunction:
    """What a function `(context, subject_id) -> dict` returns; a bare function means this.

    It is called in a thread of its own, so that a slow one holds no other answer up.

    Args:
        timeout: how long a decision waits for it at most.
        default: where it is slower than that, raises, or lacks a name.
    """

    function: Lookup
    timeout: timedelta = timedelta(seconds=0.05)
    default: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ApplicationError(
                f"FromFunction({in_short(self.function)}): expected a function of context and "
                "subject_id to a dict"
            )
        _check_duration("FromFunction", "timeout", self.timeout, MOST_WAIT)
        _check_default("FromFunction", self.default)

    @property
    def extra(self) -> tuple[str, tuple[str, ...]]:
        """Nothing but what the function imports itself."""
        return "", ()

    def words(self) -> str:
        """For people."""
        name = getattr(self.function, "__name__", "a function")
        return f"what {name}(context, subject_id) returns, {_limit_words(self.timeout)}"


Hydration = FromTable | FromRedis | FromFunction


def hydration_of(given: Any, observation: Sequence[Feature]) -> Hydration | None:
    """What an application's `hydrate=` means, checked against its features.

    Raises:
        ApplicationError: it is nothing that can be looked up, a default does not fit its feature,
            or somebody who is not found would be refused.
    """
    if given is None:
        return None
    if callable(given):
        given = FromFunction(given)
    if not isinstance(given, (FromTable, FromRedis, FromFunction)):
        raise ApplicationError(
            f"Application(hydrate={in_short(given)}): expected FromTable(…), FromRedis(…), "
            "FromFunction(…), or a function of context and subject_id"
        )
    kind = type(given).__name__
    features = {feature.name: feature for feature in observation}
    for name, value in given.default.items():
        if name in features:
            try:
                Encoder([features[name]]).encode({name: value})
            except InvalidContext as error:
                raise ApplicationError(f"{kind}(default={{{name!r}: …}}): {error}") from None
    for name in () if isinstance(given, FromFunction) else given.columns or ():
        if name in features and features[name].default is None and name not in given.default:
            raise ApplicationError(
                f"{kind}(columns=[…, {name!r}]): whoever is not found would be refused; give "
                f"default={{{name!r}: …}}, or the feature a default"
            )
    return given


def missing_packages(hydration: Hydration) -> str | None:
    """What to install before serving can look it up; None where all is there."""
    name, packages = hydration.extra
    missing = [package for package in packages if find_spec(package) is None]
    if not missing:
        return None
    return (
        f"{type(hydration).__name__} needs {' and '.join(missing)}, which this Python lacks: "
        f"pip install 'bakehouse[{name}]'"
    )


def _names(kind: str, names: Any) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ApplicationError(f"{kind}(columns={in_short(names)}): expected a list of names")
    found = tuple(names)
    if not found or len(set(found)) != len(found) or not all(is_text(name) for name in found):
        raise ApplicationError(
            f"{kind}(columns={in_short(found)}): expected at least one name, and each once"
        )
    return found


def _check_duration(kind: str, name: str, value: Any, most: timedelta | None) -> None:
    if not isinstance(value, timedelta) or value <= timedelta(0) or (most and value > most):
        limit = "" if most is None else f", at most {most.total_seconds():g} seconds"
        raise ApplicationError(
            f"{kind}({name}={in_short(value)}): give a duration, such as seconds(0.01){limit}"
        )


def _check_default(kind: str, default: Any) -> None:
    if not isinstance(default, Mapping) or not all(is_text(name) for name in default):
        raise ApplicationError(
            f"{kind}(default={in_short(default)}): expected names and values, such as "
            "{'spend': 0.0}"
        )


def _limit_words(timeout: timedelta) -> str:
    return f"waited for at most {timeout.total_seconds() * 1000:g} ms"
