"""One stage of the pipe as the dashboard shows it, and what it is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from bakehouse_serving.dashboard.waits import Waiting

Level = Literal["ok", "busy", "blocked", "unknown"]
Fields = Mapping[str, Any]


class Activity(NamedTuple):
    """When things last happened in this process, milliseconds since 1970; None: not yet.

    Args:
        spool_flows_at_ms: when nothing waited in the spool that was older than a second.
        kafka_at_ms: when Kafka took events and told of policies, or was only being started.
    """

    decided_at_ms: int | None = None
    published_at_ms: int | None = None
    spool_flows_at_ms: int | None = None
    kafka_at_ms: int | None = None


class Snapshot(NamedTuple):
    """What is known of one application and of all parts now.

    Args:
        own: the status of this serving process.
        figures: of the application, in this process.
        stream, learner: the latest `status.v1` of each; empty where there is none.
        application: the learner's status of the application.
        stream_waits, learner_waits: since when each has had work and said nothing.
    """

    own: Fields
    figures: Fields
    stream: Fields
    learner: Fields
    application: Fields
    stream_waits: Waiting = Waiting()
    learner_waits: Waiting = Waiting()


def make_stage(
    name: str,
    title: str,
    level: Level,
    age_ms: float | None,
    figures: Sequence[tuple[str, str]],
    meaning: str,
    do: str = "nothing to do",
    blocks: str | None = None,
) -> dict[str, Any]:
    """The JSON of one stage.

    Args:
        age_ms: how old what it shows is; None: not known.
        figures: label and value of each, as text.
        blocks: of a blocked one: what is wrong, as a clause.
    """
    return {
        "stage": name,
        "title": title,
        "level": level,
        "age_s": None if age_ms is None else round(max(age_ms, 0) / 1000, 1),
        "figures": [{"name": label, "value": value} for label, value in figures],
        "meaning": meaning,
        "do": do,
        "blocks": blocks if level == "blocked" else None,
    }


def ms_since(then_ms: int | None, now_ms: int) -> int | None:
    """Milliseconds since then; None where it never was."""
    return None if then_ms is None else now_ms - then_ms
