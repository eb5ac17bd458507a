"""The five topics: what each keeps, and for how long."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bakehouse.local.ports import any_answers
from bakehouse_schemas.errors import StackError
from bakehouse_schemas.process.settings import Settings

if TYPE_CHECKING:  # slow to import, and serving is started by who imports this
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource

MIB = 1 << 20
MINUTE_MS = 60_000
BROKER_TIME = "LogAppendTime"  # event time is the broker's: a client's clock can wedge nothing
# Less than this, and events go before a part that was started anew has read them.
LEAST_RETENTION_MS = 60 * MINUTE_MS
LISTED_WITHIN_S = 60.0  # from a topic being made to the broker's listing it
LEAST_RECORD_BYTES = 64 << 10  # of events that a topic must take


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

    Topics that exist are left to whoever runs the cluster, but for what would lose events or
    controls (`unfit`). With `adjust` (the embedded broker) their configuration follows the
    settings.

    Raises:
        StackError: the broker refuses, or a topic is unfit.
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
            missing = []  # another process was first; what it made is checked like any other
            _await_listed(client, wanted)
        if adjust:
            client.alter_configs(
                [_resource(name, topic["configs"]) for name, topic in wanted.items()]
            )
        if problems := unfit(client, settings):
            raise StackError("; ".join([*problems, "nothing was changed"]))
    return missing


def _await_listed(client: KafkaAdminClient, names: Iterable[str]) -> None:
    """Return once the broker lists these topics: it makes a topic before it tells of it.

    Raises:
        StackError: it does not, for a long time.
    """
    give_up = time.monotonic() + LISTED_WITHIN_S
    while unlisted := sorted(set(names) - set(client.list_topics())):
        if time.monotonic() > give_up:
            raise StackError(
                f"topics {', '.join(unlisted)} exist, the broker says, and it does not list them "
                f"within {LISTED_WITHIN_S:g} s; they were not checked, and nothing was changed"
            )
        time.sleep(0.05)


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


def unfit(client: KafkaAdminClient, settings: Settings) -> list[str]:
    """What is wrong with the topics that exist, each with the command that mends it.

    Only what would lose something: other settings are the cluster's own affair.
    """
    names = sorted(set(topics(settings)) & set(client.list_topics()))
    if not names:
        return []
    resources = [_resource(name, None) for name in names]
    described = client.describe_configs(resources, config_filter="all")["topic"]
    alter = (
        f"kafka-configs --bootstrap-server {settings.kafka_bootstrap} --alter "
        "--entity-type topics --entity-name {} --add-config {}={}"
    )
    found = []
    for name in names:
        has = {key: str(entry["value"]) for key, entry in described[name].items()}
        for key, expected, why in _faults(settings, name, has):
            found.append(
                f"topic {name} has {key}={has[key]}, expected {expected}: {why} "
                f"({alter.format(name, key, topics(settings)[name]['configs'][key])})"
            )
    progress = settings.topic("progress")
    if progress in names:
        (about,) = client.describe_topics([progress])
        if (count := len(about["partitions"])) != 1:
            found.append(
                f"topic {progress} has {count} partitions, expected 1: its last record says where "
                "stream is (delete the topic; it is made anew)"
            )
    return found


def _faults(
    settings: Settings, name: str, has: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    """Key, what was expected of it, and why, of each setting that would lose something."""
    if has["message.timestamp.type"] != BROKER_TIME:
        yield "message.timestamp.type", BROKER_TIME, "event time must be the broker's"
    policy = topics(settings)[name]["configs"]["cleanup.policy"]
    if has["cleanup.policy"] != policy:
        why = (
            "a later record of a decision would remove the earlier"
            if policy == "delete"
            else "what was said last, a kill too, would be forgotten with age"
        )
        yield "cleanup.policy", policy, why
    if name not in (settings.topic("decisions"), settings.topic("outcomes")):
        return
    if 0 <= int(has["retention.ms"]) < LEAST_RETENTION_MS:
        why = "events would be gone before a part that is started anew has read them"
        yield "retention.ms", f"at least {LEAST_RETENTION_MS}", why
    if int(has["max.message.bytes"]) < LEAST_RECORD_BYTES:
        yield "max.message.bytes", f"at least {LEAST_RECORD_BYTES}", "events would be refused"


def _resource(name: str, configuration: dict[str, str] | None) -> ConfigResource:
    from kafka.admin import ConfigResource, ConfigResourceType

    return ConfigResource(ConfigResourceType.TOPIC, name, configuration)
