"""The Spark session: settings that were measured, each with its reason."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from bakehouse_schemas.process.settings import Settings

DRIVER_MEMORY = "1g"
STATE_PARTITIONS = 2
LOG_LEVEL = "FATAL"  # what fails is raised in Python, once, and logged there

_STREAMING = "spark.sql.streaming."
_STATE = f"{_STREAMING}stateStore."
OPTIONS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # small batches: a partition costs more than its rows
    "spark.sql.shuffle.partitions": str(STATE_PARTITIONS),
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.autoBroadcastJoinThreshold": "-1",
    "spark.shuffle.sort.bypassMergeThreshold": "8",
    "spark.shuffle.compress": "false",
    "spark.sql.codegen.cache.maxEntries": "1000",
    "spark.cleaner.periodicGC.interval": "10min",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "5000",
    # the join's state
    f"{_STATE}providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
    f"{_STATE}rocksdb.changelogCheckpointing.enabled": "true",
    f"{_STATE}rocksdb.trackTotalNumberOfRows": "false",
    # a snapshot flushes inside the batch: every tenth (the default) was a slow one
    f"{_STATE}minDeltasForSnapshot": "200",
    f"{_STATE}maintenanceInterval": "30s",
    f"{_STREAMING}join.stateFormatVersion": "4",
    f"{_STREAMING}join.stateFormatV4.enabled": "true",
    # an idle topic must not hold the watermark; what `max` drops, repair finds
    f"{_STREAMING}multipleWatermarkPolicy": "max",
    # without this every batch with data is followed by one without, only to evict
    f"{_STREAMING}noDataMicroBatches.enabled": "false",
    f"{_STREAMING}minBatchesToRetain": "20",
    f"{_STREAMING}numRecentProgressUpdates": "10",
    # the default (FileContext) forks a `readlink` process for every file that it renames
    f"{_STREAMING}checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing."
        "FileSystemBasedCheckpointFileManager"
    ),
    f"{_STREAMING}checkpoint.fileChecksum.enabled": "false",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
}


# Spark's own Delta writer, for batch jobs: the hot path commits without it (tables/tables.py)
DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}


def start_session(settings: Settings, *, jars: list[str], delta: bool = False) -> SparkSession:
    """A session on the settings' master; everything that it writes lies under the home.

    Args:
        jars: paths of the Kafka source, of Delta, and of what they need.
        delta: whether it can write Delta tables itself.
    """
    # The workers run what this process runs. Spark takes that from the environment alone here, and
    # else runs whatever `python3` is on the PATH, which need not be ours.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    scratch = settings.home.resolve() / "stream" / "spark"
    scratch.mkdir(parents=True, exist_ok=True)
    builder = (
        SparkSession.builder.appName("bakehouse-stream")
        .master(settings.spark_master)
        .config("spark.driver.memory", DRIVER_MEMORY)
        .config("spark.driver.extraJavaOptions", _java_options(scratch))
        .config("spark.local.dir", str(scratch))
        # the workers find the applications where this process does
        .config("spark.executorEnv.PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        .config("spark.sql.warehouse.dir", str(scratch / "warehouse"))
    )
    if jars:
        builder = builder.config("spark.jars", ",".join(jars))
    for name, value in (OPTIONS | (DELTA if delta else {})).items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel(LOG_LEVEL)
    _write_no_checksums(session)
    return session


def _write_no_checksums(session: SparkSession) -> None:
    """No .crc file beside every file of the checkpoint: half of all files, and never read."""
    hadoop = session._jvm.org.apache.hadoop.fs.FileSystem  # type: ignore[union-attr]
    hadoop.getLocal(session._jsc.hadoopConfiguration()).setWriteChecksum(False)


def _java_options(scratch: Path) -> str:
    # one collector thread: two cores are shared with everything else
    return f"-XX:+UseSerialGC -Xss8m -Djava.io.tmpdir={scratch} -Dderby.system.home={scratch}"
