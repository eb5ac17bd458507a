"""Spark starts on the packaged JRE, which lacks a module that Spark insists on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bakehouse.local.java import find_java

pytestmark = pytest.mark.full

SESSION = """
from pyspark.sql import SparkSession
spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.ui.enabled", "false")
    .config("spark.driver.host", "127.0.0.1")
    .getOrCreate()
)
java = spark.sparkContext._jvm.java.lang.System.getProperty("java.specification.version")
print("rows", spark.range(3).count(), "java", java)
spark.stop()
"""


def test_spark_starts_where_there_is_no_java_but_the_packaged_one(tmp_path: Path) -> None:
    java = find_java({"HOME": str(Path.home()), "PATH": ""})
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("JAVA_HOME", "SPARK_HOME", "PYSPARK_PYTHON")
    }
    done = subprocess.run(
        [sys.executable, "-c", SESSION],
        env=environment | {"JAVA_HOME": str(java.home), "PYSPARK_PYTHON": sys.executable},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "rows 3 java 21", done.stderr[-2000:]
