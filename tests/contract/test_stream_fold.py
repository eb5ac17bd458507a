"""The fold over DataFrames is the fold of plain Python, whatever was appended how often."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bakehouse_schemas.replay.fold import fold_rows
from bakehouse_stream.columns import arrow_schema, spark_schema
from bakehouse_stream.fold import fold
from bakehouse_stream.kafka.decode import Record, decision_row, next_row, outcome_row
from bakehouse_stream.upkeep.repair import match
from tests.stream_events import APPLICATION, decision, outcome

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

from bakehouse_schemas.events.events import Decision, Outcome

Row = dict[str, Any]
IDS = [f"01a204a1-9c69-7{n:03x}-8493-0a2ae2fab7a9" for n in range(40)]


def copy_of_decision(seed: int) -> Row:
    """A decision as read at one position; what it says depends on the position alone."""
    drawn = random.Random(seed)
    event = decision(
        drawn.choice(IDS),
        decided_at_ms=drawn.randrange(3),
        context={"skill": drawn.choice([0.5, 0.75])},
        propensity=drawn.choice([0.5, 0.5, 0.5, 0.25]),
        items=drawn.choice([None, [{"id": 1}]]),
        **drawn.choice([{}, {"region": "eu"}, {"region": "us"}]),  # of a later release
    )
    # broker times repeat, so that topic, partition and offset decide
    place = Record("decisions", drawn.randrange(2), seed, drawn.randrange(4), None, b"")
    # of an id that was forgotten and came again, copies lie in two hours
    return decision_row(Decision.model_validate(event), place) | {"hour": drawn.randrange(2)}


def copy_of_outcome(seed: int) -> Row:
    drawn = random.Random(seed)
    place = Record("outcomes", drawn.randrange(2), seed, drawn.randrange(4), None, b"")
    if drawn.random() < 0.2:
        follower = decision(IDS[0], previous=IDS[1], observation=drawn.choice([None, [0.25]]))
        return next_row(Decision.model_validate(follower), place)
    added = drawn.choice([{}, {"region": "eu"}, {"region": "us"}])
    event = outcome(IDS[0], drawn.choice("abcé"), value=drawn.choice([None, 1.0, -2.5]), **added)
    return outcome_row(Outcome.model_validate(event), place)


@st.composite
def appended(draw: st.DrawFn) -> list[Row]:
    """Rows as joins, repairs, restarts and compactions may leave them, in any order."""
    decisions = [copy_of_decision(seed) for seed in draw(st.sets(seeds, min_size=1, max_size=60))]
    rows = [
        row | {"outcomes": [copy_of_outcome(seed) for seed in told]}
        for row in decisions
        for told in draw(st.lists(st.lists(seeds, max_size=3), min_size=1, max_size=2))
    ]
    some = draw(st.lists(st.sampled_from(rows), max_size=30))
    partly = list(fold_rows(some).values())  # what a compaction left
    return draw(st.permutations([*rows, *some, *partly]))


seeds = st.integers(0, 500)


def in_spark(spark: SparkSession, rows: list[Row]) -> Any:
    table = pa.Table.from_pylist(rows, schema=arrow_schema("replay"))
    return spark.createDataFrame(table, spark_schema("replay"))


def as_stored(rows: Any) -> dict[str, Row]:
    table = pa.Table.from_pylist(list(rows), schema=arrow_schema("replay"))
    return {row["decision_id"]: row for row in table.to_pylist()}


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rows=appended())
def test_the_fold_over_dataframes_is_the_fold_by_definition(
    spark: SparkSession, rows: list[Row]
) -> None:
    found = fold(in_spark(spark, rows)).toArrow().cast(arrow_schema("replay")).to_pylist()
    expected = as_stored(fold_rows(rows).values())
    assert len(found) == len(expected)
    assert {row["decision_id"]: row for row in found} == expected


def test_repair_makes_the_rows_that_the_join_would_have_made(spark: SparkSession) -> None:
    one, other = copy_of_decision(1), copy_of_decision(2)
    told = copy_of_outcome(3)
    ledger = [
        {"application": APPLICATION.name, "hour": row["hour"], "decision_id": row["decision_id"]}
        | told
        for row in (one, one | {"decision_id": IDS[39].replace("8493", "9999")})
    ]
    made = match(
        in_spark(spark, [one, other]),
        spark.createDataFrame(
            pa.Table.from_pylist(ledger, schema=arrow_schema("outcomes")), spark_schema("outcomes")
        ),
    )
    rows = made.toArrow().cast(arrow_schema("replay")).to_pylist()
    assert rows == list(as_stored([one | {"outcomes": [told]}]).values())
