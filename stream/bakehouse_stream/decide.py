"""`python -m bakehouse_stream.decide REF --from people.parquet --to decisions`: decides for a
population.

Spark reads the people, its workers decide by the rule of serving
(`schemas/bakehouse_schemas/decisions/decide.py`), and the decisions are logged like any other, so
that outcomes train on them. Ids and draws come from the run and the subject, so a task that Spark
runs again decides nothing anew.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import date
from datetime import time as time_of_day
from decimal import Decimal
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.types import DecimalType, IntegralType, StringType

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.hydration import FromFunction
from bakehouse_schemas.decisions.decide import answer_one, check
from bakehouse_schemas.decisions.slot import Slot, version_zero
from bakehouse_schemas.errors import ApplicationError, BakehouseError, InvalidEvent, StackError
from bakehouse_schemas.events.events import DecisionRequest
from bakehouse_schemas.events.validation import validated
from bakehouse_schemas.events.wire import parse_json
from bakehouse_schemas.ids import uuid7, uuid7_of
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.numbers import in_short
from bakehouse_schemas.policy.bundle import load_bundle
from bakehouse_schemas.process.settings import Settings, load_settings
from bakehouse_stream.kafka.sources import kafka_options
from bakehouse_stream.main import JARS_VARIABLE
from bakehouse_stream.session import start_session

DECIDED = pa.schema(
    [
        ("subject_id", pa.string()),
        ("decision_id", pa.string()),
        ("action", pa.string()),  # a label as it is, anything else as JSON
        ("propensity", pa.float64()),
        ("policy_version", pa.int64()),
        ("cohort", pa.string()),
        ("explored", pa.bool_()),
        ("problem", pa.string()),  # why there is no decision
        ("event", pa.string()),  # the record of decisions.v1
    ]
)
# of the people; every other column is a field of the context
REQUEST_COLUMNS = ("subject_id", "episode_id", "previous_decision_id")
JSON_COLUMNS = ("context", "items", "eligible_actions", "excluded_actions", "baseline_action")
Batches = Iterator[pa.RecordBatch]


class Run(NamedTuple):
    """One batch of decisions; travels to Spark's workers."""

    ref: str
    run_id: str
    at_ms: int
    policy: str | None  # the bundle's folder; None: version 0
    killed: bool  # everyone gets the plain baseline
    pinned: bool = False  # a person promoted the policy: it answers everyone, whatever its canary
    explore_share: float | None = None  # of uniform choice, where a person said so


def decided(people: DataFrame, run: Run) -> DataFrame:
    """A row of DECIDED for each of the people."""
    schema = ", ".join(f"{field.name} {_spark_type(field.type)}" for field in DECIDED)
    return people.mapInArrow(_decider(run), schema)


def _spark_type(kind: pa.DataType) -> str:
    names = {pa.float64(): "double", pa.int64(): "bigint", pa.bool_(): "boolean"}
    return names.get(kind, "string")


def _decider(run: Run) -> Callable[[Batches], Batches]:
    def decide(batches: Batches) -> Batches:
        application, slot = _loaded(run)
        for batch in batches:
            columns = [_cells(column) for column in batch.columns]
            people = [
                dict(zip(batch.schema.names, cells, strict=True))
                for cells in zip(*columns, strict=True)
            ]
            rows = [_row(application, slot, run, person) for person in people]
            yield pa.RecordBatch.from_pylist(rows, schema=DECIDED)

    return decide


class _Unreadable(NamedTuple):
    """A cell that Python has no value for, such as a day of the year 52000."""

    reason: str


def _cells(column: pa.Array) -> list[Any]:
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


@cache
def _loaded(run: Run) -> tuple[Application, Slot]:
    application = load_application(run.ref).application
    if run.policy is None:
        return application, version_zero(
            application, killed=run.killed, explore_share=run.explore_share
        )
    loaded = load_bundle(
        Path(run.policy),
        application=application.name,
        contract=application.contract,
        sha256=None,
        labels=application.actions.choices,
        shape=application.shape,
        dimensions=application.encoder.size,
    )
    exploration = loaded.manifest.exploration
    canary = 1.0 if run.pinned else loaded.manifest.canary
    return application, Slot(
        loaded, exploration, run.killed, canary=canary, explore_share=run.explore_share
    )


def _row(
    application: Application, slot: Slot, run: Run, person: Mapping[str, Any]
) -> dict[str, Any]:
    subject = _id(person.get("subject_id"))
    if subject is not None and not isinstance(subject, str):
        subject = in_short(subject)  # refused below, and still told apart
    row: dict[str, Any] = dict.fromkeys(DECIDED.names) | {"subject_id": subject}
    try:
        request = validated(DecisionRequest, request_of(application, person))
        seed = blake2b(f"{run.run_id}/{request.subject_id}".encode(), digest_size=18).digest()
        asked = check(
            application, request, decision_id=uuid7_of(run.at_ms, seed[:10]), now_ms=run.at_ms
        )
    except InvalidEvent as error:
        return row | {"problem": str(error)}
    draw = (int.from_bytes(seed[10:], "big") >> 11) / (1 << 53)
    made = answer_one(application, slot, asked, draw, now_ms=run.at_ms)
    action = made.action if isinstance(made.action, str) else json.dumps(made.action)
    return row | {
        "decision_id": made.decision_id,
        "action": action,
        "propensity": made.propensity,
        "policy_version": made.policy_version,
        "cohort": made.cohort,
        "explored": made.explored,
        "event": orjson.dumps(made.event).decode(),
    }


def request_of(application: Application, person: Mapping[str, Any]) -> dict[str, Any]:
    """A person as the body of a request.

    Columns named in REQUEST_COLUMNS and JSON_COLUMNS are what they say; all others are fields of
    the context, as they are named. A function of the application (`hydrate`) completes it.

    Raises:
        InvalidEvent: a column that should hold JSON does not, or a value is none that JSON has.
    """
    request = {name: _id(person[name]) for name in REQUEST_COLUMNS if person.get(name) is not None}
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


def _id(value: Any) -> Any:
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


def log_decisions(spark: SparkSession, settings: Settings, folder: str) -> int:
    """Publish the events of a folder of decisions; returns how many there are.

    Publishing them again changes nothing: each has its id, and the table folds by it.
    """
    made = spark.read.parquet(folder).where(F.col("event").isNotNull())
    options = {k: v for k, v in kafka_options(settings).items() if k != "failOnDataLoss"}
    (
        made.select(F.col("decision_id").alias("key"), F.col("event").alias("value"))
        .write.format("kafka")
        .options(**options)
        .option("topic", settings.topic("decisions"))
        .save()
    )
    return made.count()


def summary(spark: SparkSession, folder: str) -> dict[str, Any]:
    """What was decided: counts, and the first problems in words."""
    made = spark.read.parquet(folder)
    refused = made.where(F.col("problem").isNotNull())

    def counts(column: str) -> dict[str, int]:
        rows = made.where(F.col(column).isNotNull()).groupBy(column).count()
        return {
            str(row[column]): row["count"]
            for row in rows.orderBy(F.desc("count")).limit(30).collect()
        }

    first = refused.select("problem").distinct().limit(3).collect()
    problems = [row["problem"] for row in first]
    return {
        "decided": made.where(F.col("event").isNotNull()).count(),
        "refused": refused.count(),
        "problems": problems,
        "cohorts": counts("cohort"),
        "actions": counts("action"),
    }


def main(arguments: list[str] | None = None) -> int:
    """Decide, log, and print a summary as the last line."""
    parser = argparse.ArgumentParser(prog="python -m bakehouse_stream.decide", description=__doc__)
    parser.add_argument("ref", metavar="REF")
    parser.add_argument("--from", dest="source", help="Parquet of people")
    parser.add_argument("--to", required=True, help="folder of Parquet for the decisions")
    parser.add_argument("--policy", help="the bundle's folder (default: version 0)")
    parser.add_argument("--killed", action="store_true", help="the plain baseline for everyone")
    parser.add_argument("--pinned", action="store_true", help="whatever its canary, for everyone")
    parser.add_argument("--explore-share", type=float, help="of uniform choice, as people said")
    parser.add_argument("--resend", action="store_true", help="log what --to already holds")
    options = parser.parse_args(arguments)
    try:
        print(json.dumps(_run(options)), flush=True)  # noqa: T201 - this is what was asked for
    except BakehouseError as error:
        said = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(said), flush=True)  # noqa: T201
        return 2
    return 0


def _run(options: argparse.Namespace) -> dict[str, Any]:
    settings = load_settings()
    application = load_application(options.ref).application
    there = Path(options.to).exists()
    if there != options.resend:
        raise StackError(
            f"{options.to} is there already; name another folder, or say --resend to log what it "
            "holds once more"
            if there
            else f"{options.to} is not there: nothing to log again"
        )
    jars = [jar for jar in os.environ.get(JARS_VARIABLE, "").split(",") if jar]
    spark = start_session(settings, jars=jars)
    try:
        if not options.resend:
            people = read_people(spark, options.source)
            check_people(application, people, options.source)
            at_ms, policy = time.time_ns() // 10**6, options.policy
            run = Run(
                options.ref,
                uuid7(),
                at_ms,
                policy,
                killed=options.killed,
                pinned=options.pinned,
                explore_share=options.explore_share,
            )
            decided(people, run).write.parquet(options.to)
        logged = log_decisions(spark, settings, options.to)
        return {"to": options.to, "logged": logged} | summary(spark, options.to)
    finally:
        spark.stop()


def read_people(spark: SparkSession, source: str) -> DataFrame:
    """What the Parquet file or folder holds. Raises StackError where it is none."""
    try:
        return spark.read.parquet(source)
    except (PySparkException, Py4JError):  # with pages of Java's own frames
        raise StackError(
            f"{source} cannot be read: expected a Parquet file, or a folder of them; nothing was "
            "decided"
        ) from None


if __name__ == "__main__":
    # Spark's workers look functions up by module, and have another `__main__`
    from bakehouse_stream.decide import main as run_by_module_name

    sys.exit(run_by_module_name())
