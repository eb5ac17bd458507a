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
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.decisions.decide import answer_one, check
from bakehouse_schemas.decisions.slot import Slot, version_zero
from bakehouse_schemas.errors import BakehouseError, InvalidEvent, StackError
from bakehouse_schemas.events.events import DecisionRequest
from bakehouse_schemas.events.validation import validated
from bakehouse_schemas.ids import uuid7, uuid7_of
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.numbers import in_short
from bakehouse_schemas.policy.bundle import load_bundle
from bakehouse_schemas.process.settings import Settings, load_settings
from bakehouse_stream.kafka.sources import kafka_options
from bakehouse_stream.main import JARS_VARIABLE
from bakehouse_stream.people import cells_of, check_people, id_text, read_people, request_of
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
            columns = [cells_of(column) for column in batch.columns]
            people = [
                dict(zip(batch.schema.names, cells, strict=True))
                for cells in zip(*columns, strict=True)
            ]
            rows = [_row(application, slot, run, person) for person in people]
            yield pa.RecordBatch.from_pylist(rows, schema=DECIDED)

    return decide


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
    subject = id_text(person.get("subject_id"))
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


if __name__ == "__main__":
    # Spark's workers look functions up by module, and have another `__main__`
    from bakehouse_stream.decide import main as run_by_module_name

    sys.exit(run_by_module_name())
