"""`python -m bakehouse_stream.rebuild REF… --into FOLDER`: the tables again, from Kafka alone.

In batch, from the earliest offsets that the broker still has, through the same join, decoder and
fold as the streaming query. What it makes equals the fold of what the query has appended. Nobody
else writes to the new tables, and they may be large: Spark writes them itself, from its workers.

An id that is no UUIDv7 lies in the hour of the first event that the broker still has of it.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import reduce
from pathlib import Path

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from bakehouse_schemas.ids import MS_PER_HOUR
from bakehouse_schemas.loading import load_applications
from bakehouse_schemas.process.settings import Settings, load_settings
from bakehouse_schemas.replay.tables import PARTITIONED_BY
from bakehouse_stream.fold import fold
from bakehouse_stream.kafka.broker import Broker
from bakehouse_stream.kafka.decode import OUTPUTS, known_contracts
from bakehouse_stream.kafka.sources import all_records
from bakehouse_stream.main import JARS_VARIABLE
from bakehouse_stream.queries.replay_query import table_rows
from bakehouse_stream.session import start_session
from bakehouse_stream.tables.tables import create_tables, table_uri


def rebuilt_rows(spark: SparkSession, settings: Settings, refs: list[str]) -> DataFrame:
    """Everything that Kafka holds, as `replay, outcome, quarantined` rows; nothing is folded."""
    both = ["decisions", "outcomes"]
    return table_rows(
        all_records(spark, settings, both),
        all_records(spark, settings, ["decisions"]),
        all_records(spark, settings, both),
        refs=refs,
        decisions_topic=settings.topic("decisions"),
        retention=None,
        tasks=settings.topic_partitions,
        known=known_contracts(settings.home, load_applications(refs)),
    )


def first_hours(rows: DataFrame) -> DataFrame:
    """`application, decision_id, first_hour` of every id that does not say its hour itself."""
    named = [
        rows.where(f"{output}.hour IS NULL AND {output} IS NOT NULL").select(
            f"{output}.application",
            f"{output}.decision_id",
            F.floor(F.unix_millis(f"{output}.received_at") / MS_PER_HOUR).alias("hour"),
        )
        for output, name in OUTPUTS.items()
        if "hour" in PARTITIONED_BY[name]
    ]
    return (
        reduce(DataFrame.union, named)
        .groupBy("application", "decision_id")
        .agg(F.min("hour").cast("long").alias("first_hour"))
    )


def placed(found: DataFrame, first: DataFrame) -> DataFrame:
    """Rows of a table, each with its hour; a row that has one meets no other."""
    known = found.where("hour IS NOT NULL")
    lacking = found.where("hour IS NULL").join(first, ["application", "decision_id"])
    hours = [F.col("first_hour" if name == "hour" else name).alias(name) for name in found.columns]
    return known.unionByName(lacking.select(*hours))


def rebuild(spark: SparkSession, settings: Settings, refs: list[str], *, into: str) -> None:
    """Write the three tables into the folder or address `into`, which must hold none yet.

    The session must be one that was started with `delta=True`.
    """
    target = settings.model_copy(update={"tables_uri": into})
    broker = Broker(settings)
    create_tables(target, first_offsets=broker.beginnings())
    broker.close()
    rows = rebuilt_rows(spark, settings, refs).persist(StorageLevel.DISK_ONLY)
    first = first_hours(rows)
    for output, name in OUTPUTS.items():
        found = rows.where(F.col(output).isNotNull()).select(f"{output}.*")
        if "hour" in PARTITIONED_BY[name]:
            found = placed(found, first)
        if name == "replay":
            found = fold(found)
        found.write.format("delta").mode("append").save(table_uri(target, name))
    rows.unpersist()


def main(arguments: list[str] | None = None) -> int:
    """Rebuild and exit."""
    parser = argparse.ArgumentParser(prog="python -m bakehouse_stream.rebuild", description=__doc__)
    parser.add_argument("refs", nargs="+", metavar="REF")
    parser.add_argument("--into", required=True, help="where the new tables go")
    options = parser.parse_args(arguments)
    settings = load_settings()
    jars = [jar for jar in os.environ.get(JARS_VARIABLE, "").split(",") if jar]
    spark = start_session(settings, jars=jars, delta=True)
    rebuild(spark, settings, options.refs, into=str(Path(options.into).resolve()))
    spark.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
