"""The streaming query: records of both topics in, rows of the three tables out.

One plan, one Python stage, one action a batch. The join runs over records as they came; only
its keys are read in the JVM. What comes out, and every record by itself, is then checked once,
in Python, by the rules that HTTP uses. A key that the JVM read differently joins nothing wrong:
the checked records of a pair must agree.
"""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from bakehouse_stream.columns import spark_schema
from bakehouse_stream.join import join_outcomes
from bakehouse_stream.kafka.decode import OUTPUTS, KnownContracts, decoder
from bakehouse_stream.kafka.gaps import READ_COLUMN, noting
from bakehouse_stream.kafka.sources import RECORD


def with_keys(records: DataFrame) -> DataFrame:
    """`record, received_at`, and the fields that name a decision and its predecessor."""
    return records.select(
        "record",
        "received_at",
        F.json_tuple(
            F.col("record.value").cast("string"),
            "application",
            "decision_id",
            "previous_decision_id",
        ).alias("application", "decision_id", "previous_decision_id"),
    )


def decisions_of(records: DataFrame) -> DataFrame:
    """Records of the decisions topic as the join's left side."""
    return with_keys(records).select(
        "application", "decision_id", "received_at", F.col("record").alias("decision")
    )


def outcomes_of(records: DataFrame, *, decisions_topic: str) -> DataFrame:
    """Records of both topics as the join's right side.

    An outcome names its decision. A decision that has a predecessor is an outcome of it (`next`).
    """
    is_decision = F.col("record.topic") == decisions_topic
    named = F.when(is_decision, F.col("previous_decision_id")).otherwise(F.col("decision_id"))
    return (
        with_keys(records)
        .withColumn("decision_id", named)
        .where("decision_id IS NOT NULL")
        .select("application", "decision_id", "received_at", F.col("record").alias("outcome"))
    )


def table_rows(
    every: DataFrame,
    decisions: DataFrame,
    later: DataFrame,
    *,
    refs: list[str],
    decisions_topic: str,
    retention: timedelta | None,
    tasks: int = 1,
    known: KnownContracts | None = None,
) -> DataFrame:
    """What records add to the tables: `replay, outcome, quarantined`, one of them in each row.

    A fourth column, `read`, says in rows of its own which offsets were read
    (`stream/bakehouse_stream/kafka/gaps.py`).

    Args:
        every: records of both topics.
        decisions: records of the decisions topic.
        later: records of both topics again, the join's right side (a stream is read once for
            each use of it).
        refs: the applications, as a person names them.
        decisions_topic: its full name.
        retention: how long a decision waits in the join; None: for ever (not over streams).
        known: by application, the contracts that this home has known of it.
        tasks: how many tasks check and build the rows; one is the fastest for small batches.
    """
    nothing = F.lit(None).cast(RECORD)
    singles = every.select("record", nothing.alias("decision"), nothing.alias("outcome"))
    pairs = join_outcomes(
        decisions_of(decisions),
        outcomes_of(later, decisions_topic=decisions_topic),
        retention=retention,
    ).select(nothing.alias("record"), "decision", "outcome")
    output = ", ".join(
        f"{name} {spark_schema(table).simpleString()}" for name, table in OUTPUTS.items()
    )
    return (
        singles.unionByName(pairs)
        .coalesce(tasks)
        .mapInArrow(noting(decoder(refs, decisions_topic, known)), f"{output}, {READ_COLUMN}")
    )
