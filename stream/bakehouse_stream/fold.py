"""The fold of replay rows over DataFrames: the same rule as
`schemas/bakehouse_schemas/replay/fold.py`, which defines it.

Associative, commutative and idempotent, whatever was appended how often and in whatever order.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from bakehouse_schemas.replay.fold import CONTESTED_BY

KEY = ["application", "decision_id"]


def _earliest() -> Column:
    # positions compare as structs, field by field: broker time, topic, partition, offset
    return F.array_min("positions")


def _united(positions: Column) -> Column:
    return F.array_sort(F.array_distinct(F.flatten(F.collect_list(positions))))


def fold(rows: DataFrame) -> DataFrame:
    """Rows of `replay` as one row for each `(application, decision_id)`, columns as they were.

    The decision and the hour of the earliest copy, outcomes united by `outcome_id` (the earliest
    wins) and sorted by it, positions united, `contested` if any copies differ.
    """
    # a later release may have added columns: they are kept, too
    named = rows.columns
    kept = [name for name in named if name not in (*KEY, "outcomes", "positions", "contested")]
    entry = rows.schema["outcomes"].dataType.elementType.fieldNames()  # type: ignore[attr-defined]
    drawn = F.struct(*CONTESTED_BY)
    decisions = rows.groupBy(*KEY).agg(
        F.min_by(F.struct(*kept), _earliest()).alias("kept"),
        _united(F.col("positions")).alias("positions"),
        (F.bool_or("contested") | (F.min(drawn) != F.max(drawn))).alias("contested"),
    )
    outcomes = (
        rows.select(*KEY, F.explode("outcomes").alias("outcome"))
        .select(*KEY, "outcome.*")
        .groupBy(*KEY, "outcome_id")
        .agg(
            F.min_by(F.struct(*[n for n in entry if n != "positions"]), _earliest()).alias("first"),
            _united(F.col("positions")).alias("positions"),
        )
        .groupBy(*KEY)
        .agg(
            F.array_sort(
                F.collect_list(
                    F.struct(*["positions" if n == "positions" else f"first.{n}" for n in entry])
                )
            ).alias("outcomes"),
        )
    )
    none = F.array().cast(rows.schema["outcomes"].dataType)
    united = decisions.join(outcomes, KEY, "left")
    columns = {
        **{name: F.col(name) for name in (*KEY, "positions", "contested")},
        **{name: F.col(f"kept.{name}") for name in kept},
        "outcomes": F.coalesce("outcomes", none),
    }
    return united.select(*[columns[name].alias(name) for name in named])
