"""Where is the pipe blocked? One stage after the other, with its age, its level and what to do.

Pure: from what serving says of itself and what it last heard of stream and learner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bakehouse_serving.dashboard.own_stages import (
    kafka_stage,
    serving_stage,
    spool_stage,
    swap_stage,
)
from bakehouse_serving.dashboard.reported_stages import join_stage, learner_stage, replay_stage
from bakehouse_serving.dashboard.stage import Activity, Fields, Snapshot, make_stage

LEARNS = ("spool", "kafka", "join", "learner")  # where one is blocked, nothing is learned


def stages(
    snapshot: Snapshot, activity: Activity, *, now_ms: int, target_s: float
) -> list[dict[str, Any]]:
    """The seven stages, in the order in which an outcome passes them.

    Args:
        target_s: freshness that is wanted.
    """
    return [
        serving_stage(snapshot, activity, now_ms),
        spool_stage(snapshot, activity, now_ms),
        _reported("kafka", "Kafka", lambda: kafka_stage(snapshot, activity, now_ms)),
        _reported("join", "Join", lambda: join_stage(snapshot, now_ms)),
        _reported("replay", "Replay", lambda: replay_stage(snapshot)),
        _reported("learner", "Learner", lambda: learner_stage(snapshot, now_ms)),
        _reported("swap", "Swap", lambda: swap_stage(snapshot, target_s)),
    ]


def _reported(name: str, title: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A stage made of what other parts say, which may be of another release."""
    try:
        return make()
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        meaning = "what was heard of this stage cannot be read"
        do = "do all parts run the same release? `bakehouse logs` of each says what it is"
        return make_stage(name, title, "unknown", None, [], meaning, do)


def not_learning(pipe: Sequence[Fields]) -> dict[str, Any] | None:
    """The first stage through which nothing comes to the learner, or out of it; None: it learns.

    Beyond what `stages` says, a stage that nobody has heard of yet counts: whether anything is
    learned is not known then.
    """
    learning = [stage for stage in pipe if stage["stage"] in LEARNS]
    for level in ("blocked", "unknown"):
        for stage in learning:
            if stage["level"] == level:
                return {name: stage[name] for name in ("stage", "level", "blocks", "do")}
    return None
