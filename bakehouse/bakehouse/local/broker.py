"""A real Kafka broker for one machine: a single KRaft node whose data lives in the home."""

from __future__ import annotations

import base64
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from bakehouse.local.java import Java
from bakehouse.local.ports import answers
from bakehouse.local.topics import record_bytes
from bakehouse_schemas.errors import StackError
from bakehouse_schemas.process.settings import Settings

NODE_ID = 1
FLUSH_INTERVAL_MS = 5_000  # what a power cut can take; a killed broker loses nothing
STOP_TIMEOUT_S = 20.0

# One node for one machine: no replication, few threads, and nothing that wakes up for peers
# it does not have (an idle broker otherwise writes a no-op to its metadata log twice a second).
# After a kill the controller waits for the old session to end: 10 s of default, here 5.
PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
log.dirs={data}
auto.create.topics.enable=false
num.partitions=1
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
message.max.bytes={record_bytes}
log.retention.ms={retention_ms}
log.retention.bytes={retention_bytes}
log.retention.check.interval.ms=60000
log.segment.bytes=67108864
log.flush.interval.ms={flush_ms}
log.flush.scheduler.interval.ms={flush_ms}
log.cleaner.dedupe.buffer.size=16777216
metadata.max.idle.interval.ms=0
metadata.log.segment.bytes=16777216
metadata.max.retention.bytes=67108864
num.network.threads=2
num.io.threads=4
background.threads=2
num.recovery.threads.per.data.dir=1
broker.heartbeat.interval.ms=1000
broker.session.timeout.ms=5000
"""


@dataclass(frozen=True)
class Broker:
    """How to run the broker of one home; starting the process is the supervisor's."""

    folder: Path  # <home>/kafka
    java: Java
    jars: list[Path]
    port: int
    controller_port: int
    settings: Settings

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def properties_file(self) -> Path:
        return self.folder / "server.properties"

    def prepare(self) -> None:
        """Write the configuration, and format the data folder where there is none yet.

        Raises:
            StackError: the folder cannot be formatted; no broker was started.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.properties_file.write_text(self._properties())
        if (self.data / "meta.properties").is_file():
            return
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        formatted = subprocess.run(
            [
                *self._java("-Xmx128m"),
                *("kafka.tools.StorageTool", "format", "--standalone"),
                # in one word: an id may begin with "-"
                *(f"--cluster-id={cluster}", "-c", str(self.properties_file)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if formatted.returncode:
            said = (formatted.stderr + formatted.stdout).strip().splitlines()[-5:]
            raise StackError(
                f"the broker's folder {self.data} could not be formatted: {' '.join(said)}. "
                "No broker was started"
            )

    def command(self) -> list[str]:
        """The broker in the foreground; it stops cleanly on SIGTERM."""
        return [
            *self._java("-Xms64m", "-Xmx512m"),
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.log.kafka.server=info",
            "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaConfig=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
            *("kafka.Kafka", str(self.properties_file)),
        ]

    def answers(self) -> bool:
        """Whether a client gets an answer now (a Kafka answer, not only an open port)."""
        return answers(self.port)

    def _java(self, *options: str) -> list[str]:
        class_path = ":".join(map(str, self.jars))
        # Without the optimising compiler: 40% less CPU at start, and half as much for a message
        # in the first minutes, on two cores that others want too.
        frugal = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
        return [str(self.java.executable), *options, *frugal, "-cp", class_path]

    def _properties(self) -> str:
        return PROPERTIES.format(
            node=NODE_ID,
            port=self.port,
            controller_port=self.controller_port,
            data=self.data.resolve(),
            record_bytes=record_bytes(self.settings),
            retention_ms=int(self.settings.kafka_retention_hours * 3_600_000),
            retention_bytes=self.settings.kafka_retention_bytes,
            flush_ms=FLUSH_INTERVAL_MS,
        )
