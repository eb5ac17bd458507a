"""One broker and one Spark session for all tests that want them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings as hypothesis_settings
from xdist.scheduler import LoadScopeScheduling

from bakehouse.local.broker import Broker
from bakehouse.local.jars import Jars, ensure_jars
from bakehouse.local.java import Java, find_java
from bakehouse.local.ports import keep_ports
from bakehouse.local.topics import ensure_topics
from bakehouse_schemas.process.settings import Settings
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


# arguments by which a test asks for what is started once: one broker, one Spark session
SHARED = re.compile(r"\b(kafka: str|spark: SparkSession|settings_of: )")
MOST_WORKERS = 4  # each takes some 2 GB with TensorFlow, and starts programs beside

# No example is timed: these machines are shared. Where CI is set, examples are the same each time,
# so that a change is judged by what it changes; everywhere else each run looks at new ones.
hypothesis_settings.register_profile(
    "bakehouse", deadline=None, print_blob=True, derandomize="CI" in os.environ
)
hypothesis_settings.load_profile("bakehouse")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many as there are cores where all tests are asked for; a few are sooner done without."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return 0
    return min(os.cpu_count() or 1, MOST_WORKERS)


class FileScheduling(LoadScopeScheduling):
    """A file's tests go to one worker, and so do those of all files that share broker or Spark.

    A file is not parted: its tests may share what it starts itself, and may build on each other.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "stack" if is_sharing(self.config.rootpath / file) else file


@cache
def is_sharing(file: Path) -> bool:
    """Whether a file's tests ask for the one broker or the one Spark session."""
    return SHARED.search(file.read_text()) is not None


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling:
    """Called where tests are distributed at all."""
    return FileScheduling(config, log)


@pytest.fixture(scope="session")
def java() -> Java:
    return find_java()


@pytest.fixture(scope="session")
def all_jars() -> Jars:
    return ensure_jars()


@contextmanager
def running_broker(
    home: Path, java: Java, jars: Jars
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address and the process of a real broker."""
    ports = keep_ports(home / "ports.json", ["broker", "controller"])
    address = f"127.0.0.1:{ports['broker']}"
    broker = Broker(
        folder=home / "kafka",
        java=java,
        jars=jars.kafka,
        port=ports["broker"],
        controller_port=ports["controller"],
        settings=Settings(home=home, kafka_bootstrap=address),
    )
    broker.prepare()
    with (home / "broker.log").open("w") as log:
        process = subprocess.Popen(broker.command(), stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(broker.answers, "the broker answers")
        yield address, process
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory, java: Java, all_jars: Jars) -> Iterator[str]:
    """The address of a real broker."""
    with running_broker(tmp_path_factory.mktemp("broker"), java, all_jars) as (address, _):
        yield address


@pytest.fixture
def settings_of(kafka: str, tmp_path: Path) -> Callable[[str], Settings]:
    """Settings with topics of their own, which are made."""

    def make(prefix: str) -> Settings:
        settings = Settings(home=tmp_path / prefix, kafka_bootstrap=kafka, topic_prefix=prefix)
        ensure_topics(settings)
        return settings

    return make


@pytest.fixture(scope="session")
def spark(
    tmp_path_factory: pytest.TempPathFactory, java: Java, all_jars: Jars
) -> Iterator[SparkSession]:
    """A session as stream starts it."""
    from bakehouse_stream.session import start_session

    os.environ["JAVA_HOME"] = str(java.home)
    settings = Settings(home=tmp_path_factory.mktemp("spark"))
    session = start_session(settings, jars=list(map(str, all_jars.spark)), delta=True)
    yield session
    session.stop()
