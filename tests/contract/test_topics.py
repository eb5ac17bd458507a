"""Topics that exist are checked for all that would lose an event or a control."""

from __future__ import annotations

from typing import Any

import pytest

from bakehouse import doctor
from bakehouse.local.topics import admin, ensure_topics, topics
from bakehouse_schemas.errors import StackError
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.settings import Settings


def made(kafka: str, name: str, *, partitions: int = 1, **configs: str) -> Settings:
    """Settings whose topics exist, one of them with other settings than ours."""
    settings = Settings(kafka_bootstrap=kafka, topic_prefix=uuid7())
    described: dict[str, dict[str, Any]] = topics(settings)
    described[settings.topic(name)]["num_partitions"] = partitions
    described[settings.topic(name)]["configs"] |= {
        key.replace("_", "."): value for key, value in configs.items()
    }
    with admin(settings) as client:
        client.create_topics(described)
    return settings


def test_a_topic_that_another_has_just_made_is_checked_too(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker says that a topic exists before it lists it."""
    from kafka import KafkaAdminClient

    settings = made(kafka, "progress", cleanup_policy="compact")
    name, listed = settings.topic("progress"), KafkaAdminClient.list_topics
    looks = iter(range(10))

    def late(client: Any) -> Any:
        return [one for one in listed(client) if one != name or next(looks) >= 3]

    monkeypatch.setattr(KafkaAdminClient, "list_topics", late)
    with pytest.raises(StackError, match=r"cleanup\.policy=delete"):
        ensure_topics(settings)


@pytest.mark.parametrize(
    ("name", "configs", "mended_by"),
    [
        ("outcomes", {"message_timestamp_type": "CreateTime"}, "LogAppendTime"),
        ("outcomes", {"cleanup_policy": "compact"}, "cleanup.policy=delete"),
        ("decisions", {"cleanup_policy": "compact,delete"}, "cleanup.policy=delete"),
        ("policies", {"cleanup_policy": "delete", "retention_ms": "60000"}, "=compact"),
        ("policies", {"cleanup_policy": "compact,delete"}, "cleanup.policy=compact"),
        ("status", {"cleanup_policy": "delete"}, "cleanup.policy=compact"),
        ("progress", {"cleanup_policy": "compact"}, "cleanup.policy=delete"),
        ("outcomes", {"retention_ms": "1000"}, "retention.ms=86400000"),
        ("decisions", {"max_message_bytes": "1000"}, "max.message.bytes=2162688"),
        ("progress", {"partitions": 6}, "delete the topic"),
    ],
)
def test_a_topic_that_would_lose_something_is_refused_with_the_command_that_mends_it(
    kafka: str, name: str, configs: dict[str, Any], mended_by: str
) -> None:
    settings = made(kafka, name, **configs)
    with pytest.raises(StackError) as refused:
        ensure_topics(settings)
    said = str(refused.value)
    assert f"topic {settings.topic(name)} has " in said
    assert mended_by in said
    assert said.endswith("nothing was changed")
    found = doctor.kafka(settings)
    assert (found.verdict, mended_by in found.found) == ("blocks", True)


def test_every_fault_is_told_at_once(kafka: str) -> None:
    settings = made(kafka, "outcomes", cleanup_policy="compact", retention_ms="1000")
    with pytest.raises(StackError, match=r"cleanup\.policy=compact.*retention\.ms=1000"):
        ensure_topics(settings)


@pytest.mark.parametrize(
    ("name", "configs"),
    [
        ("decisions", {"retention_ms": "-1", "partitions": 3}),
        ("outcomes", {"retention_ms": "3600000", "max_message_bytes": "1048588"}),
        ("policies", {"compression_type": "zstd", "partitions": 2}),
        ("progress", {"retention_ms": "86400000"}),
    ],
)
def test_what_loses_nothing_is_the_clusters_own_affair(
    kafka: str, name: str, configs: dict[str, Any]
) -> None:
    settings = made(kafka, name, **configs)
    assert ensure_topics(settings) == []
    assert doctor.kafka(settings).verdict == "ok"
