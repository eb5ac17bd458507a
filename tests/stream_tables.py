"""The query of stream in this process, on real tables, and what those tables hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bakehouse_schemas.process.settings import Settings
from bakehouse_stream.kafka.broker import Broker
from bakehouse_stream.kafka.checkpoints import Checkpoint, starting_offsets
from bakehouse_stream.kafka.stream_time import reaches
from bakehouse_stream.queries.query import ReplayQuery
from bakehouse_stream.tables.tables import create_tables, open_table, tables_exist
from bakehouse_stream.tables.text_ids import TextIds
from bakehouse_stream.upkeep.repair import Repair
from tests.stream_events import GAME, folded
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@contextmanager
def streaming(
    spark: SparkSession, settings: Settings, *, tracer: Any = None
) -> Iterator[ReplayQuery]:
    """The query of stream, in this process, on the tables of these settings."""
    broker = Broker(settings)
    beginnings = broker.beginnings()
    if not tables_exist(settings):
        create_tables(settings, first_offsets=beginnings)
    checkpoint = Checkpoint(settings.home, "test")
    query = ReplayQuery(
        spark,
        settings,
        [GAME],
        checkpoint,
        on_batch=lambda: None,
        text_ids=TextIds(settings.home / "stream" / "text_ids", span=timedelta(days=2)),
        tracer=tracer,
    )
    query.start(starting_offsets(checkpoint.applied, beginnings, broker.ends()))
    try:
        yield query
    finally:
        query.stop()
        broker.close()


def work_off(query: ReplayQuery, settings: Settings) -> None:
    """Wait until everything that was published has been applied."""
    broker = Broker(settings)
    ends = broker.ends()
    broker.close()
    wait_until(lambda: reaches(query.applied[0], ends), f"applied offsets reach {ends}")


def replay_rows(settings: Settings, tables: str | None = None) -> list[dict[str, Any]]:
    where = settings.model_copy(update={"tables_uri": tables}) if tables else settings
    table = open_table(where, "replay")
    rows: list[dict[str, Any]] = table.read(table.files(), table.schema.names).to_pylist()
    return rows


def folded_table(settings: Settings, tables: str | None = None) -> dict[Any, dict[str, Any]]:
    return folded(replay_rows(settings, tables))


def repair_of(spark: SparkSession, settings: Settings) -> Repair:
    return Repair(
        spark,
        open_table(settings, "outcomes"),
        open_table(settings, "replay"),
        settings.home / "stream" / "repair.json",
    )
