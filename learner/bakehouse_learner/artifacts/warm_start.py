"""A learner's state made from history, left in a home for the next start to begin with.

It is a checkpoint without a run behind it: the agent is trained, the buffer holds the history,
and nothing has been shown to be good. Players get a policy of it once the gate lets it through,
on decisions that were made after the start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bakehouse_learner.artifacts.checkpoint import read_checkpoint, write_checkpoint
from bakehouse_learner.gate.evidence import Collector
from bakehouse_learner.learning import Learning
from bakehouse_learner.replay.maturity import RemainingReward
from bakehouse_learner.replay.row_decoder import Arrival
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.errors import BundleError

log = logging.getLogger(__name__)

FILE, REFUSED = "warm_start.npz", "warm_start.refused.npz"


def warm_start_of(
    learning: Learning, arrivals: Sequence[Arrival], application: Application, *, timed: bool
) -> dict[str, Any]:
    """What a live learner begins with.

    Args:
        learning: trained on history, or on a part of it; takes all of it in.
        arrivals: all of the history.
        application: as it will run; the history's may have other rewards.
        timed: outcomes of the history say when they happened.
    """
    assert learning.evidence is not None and learning.normaliser is not None
    learning.ingest(arrivals)
    untouched = Collector(application, learning.ring, learning.normaliser)
    untouched.replace_ring(learning.ring)  # no row of history is evidence for what learned from it
    untouched.model = learning.evidence.model
    untouched.largest_reward = learning.evidence.largest_reward
    learning.evidence = untouched
    state = learning.state()
    state["json"] |= {
        "reward": application.reward.fingerprint,
        "version": 0,
        "trainings": 0,
        "unpublished_ms": [],
    }
    if not timed:  # how long outcomes take is then still to be learned
        of = learning.imputed.remaining.groups
        state["remaining"] = RemainingReward(of, application.reward.window_ms).state()
        state["json"]["remembered"] = learning.ring.head
    return state


def leave_warm_start(folder: Path, state: dict[str, Any]) -> Path:
    """Put it where `take_up` looks: the learner's folder of the application in a home."""
    path = folder / FILE
    write_checkpoint(path, {"learning": state})
    return path


def take_up(
    folder: Path, application: Application, build: Callable[[Setup], TrainableAgent]
) -> Learning | None:
    """A learner that begins with what was left there; None where nothing was, or it is no use.

    The file stays until `taken_up`, so that a start that is cut short begins with it again.
    """
    path = folder / FILE
    learning = Learning(application, build)
    try:
        state = read_checkpoint(path)
        if state is None:
            return None
        learning.restore(state["learning"])
    except (ValueError, KeyError, BundleError) as error:
        log.warning(
            "%s is not begun with: %s; it is now %s",
            path,
            error,
            REFUSED,
            extra={"application": application.name},
        )
        path.replace(folder / REFUSED)
        return None
    log.info(
        "begins with what was learned from %d decisions of history",
        learning.ring.size,
        extra={"application": application.name},
    )
    return learning


def taken_up(folder: Path) -> None:
    """Forget what was left: a checkpoint holds it now."""
    (folder / FILE).unlink(missing_ok=True)
