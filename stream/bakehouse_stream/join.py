"""The join of decisions with their outcomes: one function, for streams and for tables.

Any two DataFrames will do that have

- decisions: `application, decision_id, received_at, decision` (whatever shape `decision` has),
- outcomes: `application, decision_id, received_at, outcome` (whatever shape `outcome` has),

where `received_at` is the broker's time. Over streams the state is bounded by `retention`;
what falls out of it costs speed and not data, because repair finds it in the tables.
"""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812  (the name that every Spark reader knows)

# How far one topic may run ahead of the other while a backlog is read, before rows are dropped.
WATERMARK_DELAY = timedelta(minutes=1)
# Two publishers, two topics: an outcome can be received before its decision.
EARLY = timedelta(minutes=5)


def _interval(duration: timedelta) -> str:
    return f"INTERVAL {int(duration.total_seconds() * 1000)} MILLISECONDS"


def join_outcomes(
    decisions: DataFrame, outcomes: DataFrame, *, retention: timedelta | None
) -> DataFrame:
    """Every pair of a decision and an outcome that names it: `decision, outcome`.

    An inner join, so that no row waits for another. With `retention` (needed over streams) an
    outcome meets a decision that was received at most that long before it; with None always.
    """
    left = decisions.select(
        F.col("application").alias("decided_application"),
        F.col("decision_id").alias("decided_id"),
        F.col("received_at").alias("decided_at"),
        "decision",
    ).withWatermark("decided_at", _delay())
    right = outcomes.select("application", "decision_id", "received_at", "outcome").withWatermark(
        "received_at", _delay()
    )
    same = (F.col("application") == F.col("decided_application")) & (
        F.col("decision_id") == F.col("decided_id")
    )
    if retention is not None:
        same = same & F.expr(
            f"received_at >= decided_at - {_interval(min(EARLY, retention))} "
            f"AND received_at <= decided_at + {_interval(retention)}"
        )
    return left.join(right, same, "inner").select("decision", "outcome")


def _delay() -> str:
    return f"{int(WATERMARK_DELAY.total_seconds())} seconds"
