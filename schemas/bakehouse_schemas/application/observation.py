"""Features of a context, and the encoder that makes a float32 observation of one.

The same encoder, pure NumPy, runs in serving and in the learner. It does not normalise:
normalisation belongs to the policy.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from bakehouse_schemas.errors import ApplicationError, InvalidContext
from bakehouse_schemas.numbers import in_short, is_finite, is_text, is_whole

FLOAT32_MAX = float(np.finfo(np.float32).max)
MOST_DIMENSIONS = 65_536  # of an observation: as JSON about what a Kafka record can hold


@dataclass(frozen=True)
class Numeric:
    """One number. With `low` and `high` the policy normalises statically, else from data.

    Without a `default` a context that lacks it is refused.
    """

    name: str
    low: float | None = None
    high: float | None = None
    default: float | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        for what in ("low", "high", "default"):
            value = getattr(self, what)
            if value is not None and not _is_float32(value):
                raise ApplicationError(
                    f"Numeric({self.name!r}, {what}={in_short(value)}): expected a finite number, "
                    "within float32"
                )
        if (self.low is None) != (self.high is None):
            raise ApplicationError(
                f"Numeric({self.name!r}) has only one of low and high: give both, for static "
                "normalisation, or neither, for normalisation from data"
            )
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ApplicationError(
                f"Numeric({self.name!r}, low={self.low}, high={self.high}): low must be below high"
            )

    @property
    def size(self) -> int:
        return 1


@dataclass(frozen=True)
class Categorical:
    """One of some labels, one-hot. Give `values` (closed) or `buckets` (open, hashed)."""

    name: str
    values: Sequence[str] | None = None
    buckets: int | None = None
    default: str | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        if (self.values is None) == (self.buckets is None):
            raise ApplicationError(
                f"Categorical({self.name!r}) needs either values=[…] for a closed set or "
                "buckets=N for an open one"
            )
        if self.values is not None:
            if isinstance(self.values, str) or not isinstance(self.values, Iterable):
                raise ApplicationError(
                    f"Categorical({self.name!r}, values={in_short(self.values)}): expected a list "
                    "of labels"
                )
            object.__setattr__(self, "values", tuple(self.values))
            for label in self.values:
                if not isinstance(label, str):
                    raise ApplicationError(
                        f"Categorical({self.name!r}, values=[…, {in_short(label)}]): a label is a "
                        "text"
                    )
            if len(set(self.values)) != len(self.values) or len(self.values) < 2:
                raise ApplicationError(
                    f"Categorical({self.name!r}, values={list(self.values)}): give at least two "
                    "different labels"
                )
        if self.buckets is not None and not is_whole(self.buckets, 2, MOST_DIMENSIONS):
            raise ApplicationError(
                f"Categorical({self.name!r}, buckets={in_short(self.buckets)}): give at least 2 "
                f"buckets, at most {MOST_DIMENSIONS}"
            )
        if self.default is not None and (
            not isinstance(self.default, str)
            or (self.values is not None and self.default not in self.values)
        ):
            raise ApplicationError(
                f"Categorical({self.name!r}, default={in_short(self.default)}): expected one of "
                "its labels"
            )

    @property
    def size(self) -> int:
        return len(self.values) if self.values is not None else int(self.buckets or 0)


@dataclass(frozen=True)
class Boolean:
    """True or false, as 1.0 or 0.0."""

    name: str
    default: bool | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.default is not None and not isinstance(self.default, bool):
            raise ApplicationError(
                f"Boolean({self.name!r}, default={in_short(self.default)}): True or False"
            )

    @property
    def size(self) -> int:
        return 1


@dataclass(frozen=True)
class Vector:
    """A fixed number of numbers, such as an embedding or the last fourteen days."""

    name: str
    length: int
    low: float | None = None
    high: float | None = None
    default: Sequence[float] | None = None

    def __post_init__(self) -> None:
        Numeric(self.name, self.low, self.high)  # the same rules
        if not is_whole(self.length, 1, MOST_DIMENSIONS):
            raise ApplicationError(
                f"Vector({self.name!r}, length={in_short(self.length)}): at least 1 number, at "
                f"most {MOST_DIMENSIONS}"
            )
        if self.default is not None:
            if not isinstance(self.default, Iterable):
                raise ApplicationError(
                    f"Vector({self.name!r}, default={in_short(self.default)}): expected a list of "
                    f"{self.length} numbers"
                )
            object.__setattr__(self, "default", tuple(self.default))
            for number in self.default:
                if not _is_float32(number):
                    raise ApplicationError(
                        f"Vector({self.name!r}, default=[…, {in_short(number)}]): expected finite "
                        "numbers, within float32"
                    )
            if len(self.default) != self.length:
                raise ApplicationError(
                    f"Vector({self.name!r}): the default has {len(self.default)} numbers, "
                    f"expected {self.length}"
                )

    @property
    def size(self) -> int:
        return self.length


Feature = Numeric | Categorical | Boolean | Vector


def described_feature(feature: Feature) -> dict[str, Any]:
    """What a feature is, for a contract's fingerprint.

    A default changes what is encoded for a missing value, not what the vector means.
    """
    return {"feature": type(feature).__name__} | {
        name: value for name, value in asdict(feature).items() if name != "default"
    }


class Bounds(NamedTuple):
    """Known range of each dimension of an observation; NaN where it is to be learned."""

    low: np.ndarray  # [D]
    high: np.ndarray  # [D]


class Encoder:
    """Makes observations of contexts.

    Args:
        features: in the order of the observation's dimensions.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(features)
        self.size = sum(feature.size for feature in self.features)
        self._slots: list[tuple[int, int, Callable[[Mapping[str, Any]], Any]]] = []
        at = 0
        for feature in self.features:
            self._slots.append((at, at + feature.size, reader(feature)))
            at += feature.size

    def encode(self, context: Mapping[str, Any]) -> np.ndarray:
        """Observation of one context: float32 `[D]`.

        Raises:
            InvalidContext: a feature without default is missing, or has a value of another
                type, outside its closed set, or not finite.
        """
        row = [0.0] * self.size
        for start, stop, read in self._slots:
            value = read(context)
            if type(value) is float:
                row[start] = value
            elif type(value) is int:  # the position of a one
                row[start + value] = 1.0
            else:
                row[start:stop] = value
        return np.array(row, dtype=np.float32)

    @property
    def names(self) -> tuple[str, ...]:
        """What each number of an observation says, D of them: `skill`, `segment=new`, `country#3`
        (its bucket 3), `history[0]`."""
        found: list[str] = []
        for feature in self.features:
            if isinstance(feature, Categorical) and feature.values is not None:
                found += [f"{feature.name}={value}" for value in feature.values]
            elif isinstance(feature, Categorical):
                found += [f"{feature.name}#{at}" for at in range(feature.size)]
            elif isinstance(feature, Vector):
                found += [f"{feature.name}[{at}]" for at in range(feature.size)]
            else:
                found.append(feature.name)
        return tuple(found)

    def bounds(self) -> Bounds:
        """Static ranges; one-hot and boolean dimensions are `[0, 1]` as they are."""
        low: list[float] = []
        high: list[float] = []
        for feature in self.features:
            if isinstance(feature, (Numeric, Vector)):
                low += [math.nan if feature.low is None else feature.low] * feature.size
                high += [math.nan if feature.high is None else feature.high] * feature.size
            else:
                low += [0.0] * feature.size
                high += [1.0] * feature.size
        return Bounds(np.array(low), np.array(high))


def _check_name(name: str) -> None:
    if not is_text(name):
        raise ApplicationError(
            "a feature's name must be a text of 1 to 200 characters, none of them a control "
            f"character, not {in_short(name)}"
        )


def _is_float32(value: Any) -> bool:
    return is_finite(value) and abs(value) <= FLOAT32_MAX


def _finite(value: Any, name: str) -> float:
    if type(value) is not float and type(value) is not int:
        raise InvalidContext(
            f"context.{name}: expected a number, got {type(value).__name__} {value!r:.60}"
        )
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not -FLOAT32_MAX <= number <= FLOAT32_MAX:
        raise InvalidContext(f"context.{name}: expected a finite float32, got {value!r:.60}")
    return number


def _missing(name: str) -> InvalidContext:
    return InvalidContext(
        f"context.{name}: missing, and its feature has no default; send it, or give the feature "
        "a default"
    )


def reader(feature: Feature) -> Callable[[Mapping[str, Any]], Any]:
    """Function of a context to a float, the position of a one, or a list of floats.

    It raises InvalidContext as `Encoder.encode` does.
    """
    name = feature.name
    if isinstance(feature, Numeric):
        default = feature.default

        def number(context: Mapping[str, Any]) -> float:
            value = context.get(name)
            if value is None:
                if default is None:
                    raise _missing(name)
                return float(default)
            return _finite(value, name)

        return number
    if isinstance(feature, Boolean):
        boolean_default = feature.default

        def boolean(context: Mapping[str, Any]) -> float:
            value = context.get(name)
            if value is None:
                if boolean_default is None:
                    raise _missing(name)
                value = boolean_default
            if value is not True and value is not False:
                raise InvalidContext(f"context.{name}: expected true or false, got {value!r:.60}")
            return 1.0 if value else 0.0

        return boolean
    if isinstance(feature, Vector):
        length, vector_default = feature.length, feature.default

        def vector(context: Mapping[str, Any]) -> list[float]:
            value = context.get(name)
            if value is None:
                if vector_default is None:
                    raise _missing(name)
                return [float(number) for number in vector_default]
            if not isinstance(value, (list, tuple)) or len(value) != length:
                raise InvalidContext(
                    f"context.{name}: expected a list of {length} numbers, got {value!r:.60}"
                )
            return [_finite(number, name) for number in value]

        return vector
    categorical_default = feature.default
    positions = {label: at for at, label in enumerate(feature.values or ())}
    buckets = feature.buckets

    def category(context: Mapping[str, Any]) -> int:
        value = context.get(name)
        if value is None:
            if categorical_default is None:
                raise _missing(name)
            value = categorical_default
        if not isinstance(value, str):
            raise InvalidContext(
                f"context.{name}: expected a label (text), got {type(value).__name__} {value!r:.60}"
            )
        if buckets is not None:
            # crc32 is the same in every process and version, unlike hash()
            return zlib.crc32(f"{name}={value}".encode()) % buckets
        if value not in positions:
            raise InvalidContext(
                f"context.{name}: expected one of {list(positions)}, got {value!r:.60}"
            )
        return positions[value]

    return category
