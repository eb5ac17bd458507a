"""The session that stream starts, with real workers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_workers_run_the_python_of_this_process_whatever_is_on_the_path(
    spark: SparkSession,
) -> None:
    """An environment need not be activated for its `bakehouse` to be started."""
    found = spark.sparkContext.parallelize([0], 1).map(lambda _: sys.executable).collect()
    assert found == [sys.executable]
