"""Kafka topics as DataFrames of records, in the shape that the join and the decoder take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from bakehouse_schemas.process.settings import Settings

Offsets = Mapping[str, Mapping[str, int]]  # topic → partition → next offset to be read

MAX_RECORDS_A_BATCH = 20_000  # a backlog is read in batches that fit into the driver
RECORD = (
    "struct<topic string, partition int, offset bigint, received_at_ms bigint, "
    "key binary, value binary>"
)


def kafka_options(settings: Settings) -> dict[str, str]:
    """Options of Spark's Kafka source that reach the settings' broker.

    `kafka.group.id` is never set, and lost data stays an error. A record of a transaction that
    was aborted is not read, and nothing beyond one that is still open.
    """
    options = {
        "kafka.bootstrap.servers": str(settings.kafka_bootstrap),
        "kafka.security.protocol": settings.kafka_security_protocol,
        "failOnDataLoss": "true",
        "kafka.isolation.level": "read_committed",
    }
    if settings.kafka_ssl_cafile:
        options["kafka.ssl.truststore.type"] = "PEM"
        options["kafka.ssl.truststore.location"] = str(Path(settings.kafka_ssl_cafile).resolve())
    if settings.kafka_sasl_mechanism:
        options["kafka.sasl.mechanism"] = settings.kafka_sasl_mechanism
        options["kafka.sasl.jaas.config"] = _jaas(settings)
    return options


def _jaas(settings: Settings) -> str:
    plain = settings.kafka_sasl_mechanism == "PLAIN"
    module = "plain.PlainLoginModule" if plain else "scram.ScramLoginModule"
    user = json.dumps(settings.kafka_sasl_username or "")
    password = json.dumps(settings.kafka_sasl_password or "")
    return (
        f"org.apache.kafka.common.security.{module} required username={user} password={password};"
    )


def stream_records(
    spark: SparkSession, settings: Settings, names: list[str], *, start: Offsets
) -> DataFrame:
    """A stream of the named topics (`decisions`, `outcomes`): `record, received_at`."""
    topics = [settings.topic(name) for name in names]
    reader = spark.readStream.format("kafka").options(**kafka_options(settings))
    return _records(
        reader.option("subscribe", ",".join(topics))
        .option("startingOffsets", json.dumps({topic: start[topic] for topic in topics}))
        .option("maxOffsetsPerTrigger", MAX_RECORDS_A_BATCH)
        .load()
    )


def all_records(spark: SparkSession, settings: Settings, names: list[str]) -> DataFrame:
    """Everything that the named topics hold now: `record, received_at`."""
    reader = spark.read.format("kafka").options(**kafka_options(settings))
    topics = ",".join(settings.topic(name) for name in names)
    return _records(reader.option("subscribe", topics).option("startingOffsets", "earliest").load())


def _records(raw: DataFrame) -> DataFrame:
    record = F.struct(
        "topic",
        "partition",
        "offset",
        F.unix_millis("timestamp").alias("received_at_ms"),
        "key",
        "value",
    )
    return raw.select(record.alias("record"), F.col("timestamp").alias("received_at"))
