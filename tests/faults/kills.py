"""Ends at failpoints: in which order, and what makes a part get there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.faults.beside import wait, wait_until
from tests.faults.rig import RETENTION_S, Rig
from tests.faults.scenarios.events import decision, outcome
from tests.faults.scenarios.growth import have_requeued

# One of each part first, so that a few kills already say something about all three.
KILLS = (
    "stream.append.between",
    "serving.spool.after_write",
    "learner.bundle.after_rename",
    "stream.append.after",
    "serving.publish.before_acknowledgement",
    "learner.training.inside",
    "stream.compaction.before_commit",
    "serving.slot.inside_load",
    "learner.checkpoint.before_rename",
    "stream.repair.after_append",
    "serving.control.before_record",
    "learner.pointer.sent",
    "stream.append.inside",
    "learner.bundle.before_rename",
    "stream.append.noted",
    "serving.spool.before_write",
    "learner.checkpoint.after_rename",
    "stream.repair.before_append",
    "learner.plan.written",
    "stream.compaction.after_commit",
    "stream.append.before",
    "stream.requeue.appended",
    "stream.requeue.staged",
    "stream.requeue.removed",
)


def at_failpoint(rig: Rig, point: str) -> dict[str, Any]:
    """End a part at a point, and wait until it is whole again."""
    stimulus = _STIMULI.get(point, _play)
    back_s = rig.kill_at(point, stimulus=lambda: stimulus(rig))
    if point == "serving.control.before_record":
        wait_until(lambda: rig.policy()["frozen"], "the word that was given is still in force")
        rig.act("release", by="test", why="the fault is over")
    if "requeue" in point:
        staged = rig.home / "stream" / "requeue"
        wait_until(
            lambda: not list(staged.glob("*.staged")),
            "the requeue that was cut off is carried out to its end",
            patience_s=120,
        )
    return {"back_s": round(back_s, 1)}


def _play(_: Rig) -> None:
    """Players, policies and the tables' upkeep get there by themselves."""


def _speak(rig: Rig) -> None:
    try:
        rig.act("freeze", by="test", why="a word that a killed process must keep")
    except Exception as error:  # it dies before it answers: that is what is wanted
        rig.say(f"  the server died before it answered: {type(error).__name__}")


def _outlive_the_join(rig: Rig) -> None:
    events = [decision() for _ in range(20)]
    rig.publish("decisions", events)
    wait(time.monotonic() + 2 * RETENTION_S)  # and the join has forgotten them
    rig.publish("outcomes", [outcome(one["decision_id"]) for one in events])


_STIMULI: dict[str, Callable[[Rig], None]] = {
    "stream.requeue.staged": have_requeued,
    "stream.requeue.appended": have_requeued,
    "stream.requeue.removed": have_requeued,
    "serving.control.before_record": _speak,
    "stream.repair.before_append": _outlive_the_join,
    "stream.repair.after_append": _outlive_the_join,
}
