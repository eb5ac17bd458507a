"""Training an agent from history, and what the history says of the policy that came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bakehouse_learner.gate.candidate import Candidate
from bakehouse_learner.learning import Learning
from bakehouse_learner.offline.history.history import History
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.plan import Plan, training_seed
from bakehouse_schemas.errors import InvalidHistory

EPOCHS, LEAST_STEPS, MOST_STEPS = 20, 2_000, 50_000  # of minibatches where none are asked for


class Progress(NamedTuple):
    """How far a training is."""

    minibatches: int
    of: int
    seconds_left: float
    losses: dict[str, float]


@dataclass(frozen=True)
class Trained:
    """An agent, trained on what was decided before `held_out_from_ms`."""

    learning: Learning
    candidate: Candidate
    minibatches: int
    trained_on: int  # decisions
    held_out_from_ms: int  # later decisions are for evaluation


def train_on_history(
    history: History,
    build: Callable[[Setup], TrainableAgent],
    *,
    held_out: float,
    steps: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Trained:
    """Train the history's application on all but its newest decisions.

    Args:
        held_out: share of decisions, the newest, that is left for evaluation.
        steps: minibatches; None: 20 passes over the history, within reason. An agent that reads
            the whole buffer at once does so once.
        on_progress: told after every call of the training function.

    Raises:
        InvalidHistory: nothing in it can be trained on.
    """
    application = history.application
    first_ms = _received(history)
    held_out_from_ms = held_out_from(history, held_out)
    earlier = [row for row in history.arrivals if first_ms[row.decision_id] < held_out_from_ms]
    if not earlier:
        raise InvalidHistory(
            f"of {len(first_ms)} decisions none is left to train on when {held_out:.0%} are "
            "held out; nothing was learned"
        )
    learning = Learning(application, build)
    learning.ring.forget_before(history.left_out_ms)
    learning.ingest(earlier)
    settings = application.training
    if steps is None:
        passes = EPOCHS * learning.ring.size // settings.batch
        steps = min(max(passes, LEAST_STEPS), MOST_STEPS)
    candidate, done, began = None, 0, clock()
    per_call = settings.steps * settings.batch
    while done < steps:
        new = learning.news(history.stream_time_ms)
        made = learning.train(
            Plan(
                version=1,
                replay_version=max(history.table_version, 0),
                stream_time_ms=history.stream_time_ms,
                seed=training_seed(settings, done + 1),
                frozen=True,  # nothing is shown to be good by what it learned from
                at_ms=history.stream_time_ms,
            )
        )
        if made is None:
            raise InvalidHistory(
                f"none of {learning.ring.size} decisions can be trained on: rewards are not "
                "finite, episodes not linked, or (without `low` and `high`) there are too few to "
                "scale by; nothing was learned"
            )
        candidate = made
        assert learning.agent is not None
        if learning.agent.learns_from_ring:
            done = steps
        else:
            done += settings.steps * max(1, -(-new // per_call))
        spent = clock() - began
        left = max(steps - done, 0) * spent / done
        on_progress(Progress(min(done, steps), steps, left, candidate.losses))
    assert candidate is not None
    return Trained(learning, candidate, done, learning.ring.size, held_out_from_ms)


def held_out_from(history: History, held_out: float) -> int:
    """Broker time from which decisions are among the newest `held_out` of them."""
    decided_ms = np.sort(np.array(list(_received(history).values())))
    cut = int(np.ceil(len(decided_ms) * (1.0 - held_out)))
    return int(decided_ms[cut]) if cut < len(decided_ms) else int(decided_ms[-1]) + 1


def _received(history: History) -> dict[str, int]:
    """When each decision was first received, by decision_id."""
    first: dict[str, int] = {}
    for row in history.arrivals:
        known = first.get(row.decision_id, row.known.received_at_ms)
        first[row.decision_id] = min(known, row.known.received_at_ms)
    return first
