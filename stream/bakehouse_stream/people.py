"""A row of people, as Spark reads it from Parquet, as the body of a request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.types import DecimalType, IntegralType, StringType

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.hydration import FromFunction
from bakehouse_schemas.errors import ApplicationError, BakehouseError, InvalidEvent, StackError
from bakehouse_schemas.events.wire import parse_json
from bakehouse_schemas.numbers import in_short

# of the people; every other column is a field of the context
REQUEST_COLUMNS = ("subject_id", "episode_id", "previous_decision_id")
JSON_COLUMNS = ("context", "items", "eligible_actions", "excluded_actions", "baseline_action")


class _Unreadable(NamedTuple):
    """A cell that Python has no value for, such as a day of the year 52000."""

    reason: str


def cells_of(column: pa.Array) -> list[Any]:
    """A column's values; one that cannot be read stands for itself alone."""
    try:
        cells: list[Any] = column.to_pylist()
    except Exception:  # Arrow's, Python's and numpy's own, by what the cell holds
        return [_cell(cell) for cell in column]
    return cells


def _cell(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except Exception as error:
        return _Unreadable(str(error))


def request_of(application: Application, person: Mapping[str, Any]) -> dict[str, Any]:
    """A person as the body of a request.

    Columns named in REQUEST_COLUMNS and JSON_COLUMNS are what they say; all others are fields of
    the context, as they are named. A function of the application (`hydrate`) completes it.

    Raises:
        InvalidEvent: a column that should hold JSON does not, or a value is none that JSON has.
    """
    request = {
        name: id_text(person[name]) for name in REQUEST_COLUMNS if person.get(name) is not None
    }
    for name in JSON_COLUMNS:
        value = person.get(name)
        if isinstance(value, str):
            try:
                value = parse_json(value.encode())
            except InvalidEvent as error:
                raise InvalidEvent(f"{name}: {error}") from None
        if value is not None:
            request[name] = _json_of(name, value)
    known = {*REQUEST_COLUMNS, *JSON_COLUMNS}
    context = {
        name: _json_of(f"context.{name}", value)
        for name, value in person.items()
        if name not in known and value is not None
    }
    given = request.get("context", {})
    if not isinstance(given, dict):
        raise InvalidEvent(f"context: expected a JSON object, got {in_short(given)}")
    request["context"] = context | given
    hydrate = application.hydrate
    if isinstance(hydrate, FromFunction):
        try:  # as in serving: what cannot be looked up is the default's
            found = hydrate.function(dict(request["context"]), str(request.get("subject_id")))
            found = _json_of("hydrate", dict(found or {}))
        except Exception:
            found = {}
        known_of = {name: v for name, v in found.items() if v is not None}
        sent = {name: v for name, v in request["context"].items() if v is not None}
        request["context"] = {**hydrate.default, **known_of, **sent}
    return request


def id_text(value: Any) -> Any:
    """A whole number as its digits, as player tables have ids; all else as it is."""
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _json_of(column: str, value: Any) -> Any:
    """A cell as JSON has it: a time as ISO 8601, a decimal as a number, bytes as their text.

    Raises:
        InvalidEvent: it has no such value, as of NaN; or not in 64 bits.
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Decimal) and value.is_finite():
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, (date, time_of_day)):
        return value.isoformat()
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            return value.decode()
    if isinstance(value, _Unreadable):
        raise InvalidEvent(f"{column}: it cannot be read: {value.reason}")
    if isinstance(value, (list, tuple)):
        return [_json_of(column, one) for one in value]
    if isinstance(value, dict):
        return {str(name): _json_of(f"{column}.{name}", one) for name, one in value.items()}
    raise InvalidEvent(
        f"{column}: {in_short(value)} is no value that JSON has; send a finite number of 64 bits, "
        "a text, true or false, a list or an object, or leave the field empty"
    )


def check_people(application: Application, people: DataFrame, source: str) -> None:
    """Raise BakehouseError unless everyone can be told apart, and their contexts completed.

    Who has no subject_id is refused by row, and stops nobody else's decision.
    """
    if "subject_id" not in people.columns:
        raise BakehouseError(
            f"{source} has the columns {people.columns}: expected one called subject_id"
        )
    kind = people.schema["subject_id"].dataType
    if not isinstance(kind, (StringType, IntegralType)) and not (
        isinstance(kind, DecimalType) and kind.scale == 0
    ):
        raise BakehouseError(
            f"{source}: subject_id is of the type {kind.simpleString()}; expected text or whole "
            "numbers. Nothing was decided"
        )
    named = people.where(F.col("subject_id").isNotNull())
    twice = named.groupBy("subject_id").count().where("count > 1").limit(3).collect()
    if twice:
        raise BakehouseError(
            f"{source} holds {', '.join(repr(row['subject_id']) for row in twice)} more than once; "
            "expected each subject_id in one row: one decision for each"
        )
    hydrate = application.hydrate
    if hydrate is not None and not isinstance(hydrate, FromFunction):
        raise ApplicationError(
            f"{application.name!r} completes contexts from {type(hydrate).__name__}, which a batch "
            "job does not read: join its columns to the people first, and set hydrate=None there"
        )


def read_people(spark: SparkSession, source: str) -> DataFrame:
    """What the Parquet file or folder holds. Raises StackError where it is none."""
    try:
        return spark.read.parquet(source)
    except (PySparkException, Py4JError):  # with pages of Java's own frames
        raise StackError(
            f"{source} cannot be read: expected a Parquet file, or a folder of them; nothing was "
            "decided"
        ) from None
