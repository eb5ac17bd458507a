"""The five topics: what each keeps, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bakehouse.local.ports import any_answers
from schemas.errors import StackError
from schemas.settings import Settings

if TYPE_CHECKING:  # slow to import, and serving is started by who imports this
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource

MIB = 1 << 20
MINUTE_MS = 60_000
BROKER_TIME = "LogAppendTime"  # event time is the broker's: a client's clock can wedge nothing


def record_bytes(settings: Settings) -> int:
    """The largest record: a body of the largest size, and what serving adds to it."""
    return 2 * settings.max_body_bytes + (64 << 10)


def topics(settings: Settings) -> dict[str, dict[str, Any]]:
    """Full name -> partitions and configuration of every topic."""
    events = {
        "cleanup.policy": "delete",
        "retention.ms": int(settings.kafka_retention_hours * 60 * MINUTE_MS),
        "retention.bytes": settings.kafka_retention_bytes,
        "segment.bytes": min(64 * MIB, max(MIB, settings.kafka_retention_bytes // 4)),
        "segment.ms": 60 * MINUTE_MS,
        "max.message.bytes": record_bytes(settings),
    }
    latest = {  # the last record of each key; rolled often, so that what is overwritten goes
        "cleanup.policy": "compact",
        "segment.bytes": 4 * MIB,
        "segment.ms": 10 * MINUTE_MS,
        "min.cleanable.dirty.ratio": 0.1,
        "delete.retention.ms": 60 * MINUTE_MS,
    }
    progress = {  # bounded by size, never by age: the last one counts, however long ago it was
        "cleanup.policy": "delete",
        "retention.ms": -1,
        "retention.bytes": 16 * MIB,
        "segment.bytes": 4 * MIB,
    }
    described = {
        "decisions": (settings.topic_partitions, events),
        "outcomes": (settings.topic_partitions, events),
        "policies": (1, latest),
        "status": (1, latest),
        "progress": (1, progress),
    }
    return {
        settings.topic(name): {
            "num_partitions": partitions,
            "replication_factor": settings.topic_replication,
            "configs": {
                key: str(value)
                for key, value in {**configuration, "message.timestamp.type": BROKER_TIME}.items()
            },
        }
        for name, (partitions, configuration) in described.items()
    }


def ensure_topics(settings: Settings, *, adjust: bool = False) -> list[str]:
    """Create the topics that are missing; returns their names.

    Topics that exist are left to whoever runs the cluster, but for one thing that cannot be
    had otherwise: their timestamps must be the broker's. With `adjust` (the embedded broker)
    their configuration follows the settings.

    Raises:
        StackError: the broker refuses, or a topic keeps its producers' timestamps.
    """
    from kafka.errors import TopicAlreadyExistsError

    wanted = topics(settings)
    with admin(settings) as client:
        missing = sorted(set(wanted) - set(client.list_topics()))
        try:
            if missing:
                client.create_topics(
                    {name: wanted[name] for name in missing}, wait_for_metadata=True
                )
        except TopicAlreadyExistsError:
            missing = []  # another process was first
        if adjust:
            client.alter_configs(
                [_resource(name, topic["configs"]) for name, topic in wanted.items()]
            )
        _check_broker_time(client, list(wanted))
    return missing


@contextmanager
def admin(settings: Settings) -> Iterator[KafkaAdminClient]:
    """An admin client of the stack's broker, closed afterwards.

    Raises:
        StackError: the broker cannot be reached, or refuses what is asked inside the block.
    """
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    address = settings.kafka_bootstrap
    # asked first: the client would try for half a minute, and leave its sockets open
    if settings.kafka_security_protocol == "PLAINTEXT" and not any_answers(address or ""):
        raise StackError(f"no Kafka answers at {address}. Nothing was changed")
    try:
        client = KafkaAdminClient(**settings.kafka_client())
    except KafkaError as error:
        raise StackError(f"no Kafka answers at {address}: {error}. Nothing was changed") from error
    try:
        yield client
    except KafkaError as error:
        raise StackError(f"Kafka at {address} refused: {error}") from error
    finally:
        client.close()


def _check_broker_time(client: KafkaAdminClient, names: list[str]) -> None:
    resources = [_resource(name, None) for name in names]
    described = client.describe_configs(resources, config_filter="all")
    for name, configuration in described["topic"].items():
        kept = configuration["message.timestamp.type"]["value"]
        if kept != BROKER_TIME:
            raise StackError(
                f"topic {name} has message.timestamp.type={kept}, expected {BROKER_TIME}: event "
                "time must be the broker's. Set it with kafka-configs --alter; nothing was changed"
            )


def _resource(name: str, configuration: dict[str, str] | None) -> ConfigResource:
    from kafka.admin import ConfigResource, ConfigResourceType

    return ConfigResource(ConfigResourceType.TOPIC, name, configuration)
