"""What does a history hold that a world can be made of?"""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np

from bakehouse_learner.offline.history.history import History
from bakehouse_learner.offline.world_fitting.world_model import fit_model
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.training.normaliser import fit_normaliser
from bakehouse_schemas.application.actions import Continuous, Discrete
from bakehouse_schemas.application.application import Application, Episodic
from bakehouse_schemas.application.reward import DecisionTimes, delay_ms
from bakehouse_schemas.errors import ApplicationError, InvalidHistory
from bakehouse_schemas.worlds.fitted_world import Fitted, FittedWorld, Space
from bakehouse_schemas.worlds.world import Happening

ROUNDING = 1e-9  # of a reward, relative


class Played(NamedTuple):
    """Matured decisions, the oldest first, with what was known and what came of them."""

    slots: np.ndarray  # int [n]
    observations: np.ndarray  # float32 [n, D]
    rows: np.ndarray  # actions as executed, float64 [n, W]
    rewards: np.ndarray  # float64 [n]
    contexts: list[str]  # JSON
    outcomes: list[list[Happening]]

    def take(self, which: np.ndarray) -> Played:
        """Some of them; `which` is an index, int `[k]`."""
        return Played(
            self.slots[which], self.observations[which], self.rows[which], self.rewards[which],
            [self.contexts[at] for at in which], [self.outcomes[at] for at in which],
        )  # fmt: skip


def check_kind(application: Application) -> Space:
    """The actions, if a world can be fitted for such an application.

    Raises:
        ApplicationError: it cannot, and what can be done instead.
    """
    remains = (
        "what the log says of policies remains open to `bakehouse evaluate`, and which agent "
        "learns best from it to `bakehouse compare --from replay`"
    )
    if isinstance(application.problem, Episodic):
        raise ApplicationError(
            f"{application.name!r} is episodic, and a world is fitted to decisions that stand "
            f"alone: a log does not list the states that players move through; {remains}"
        )
    if not isinstance(application.actions, (Discrete, Continuous)):
        raise ApplicationError(
            f"{application.name!r} decides on {application.actions.kind}, and a world is fitted to "
            f"labels or to numbers; {remains}"
        )
    if application.reward.activation:
        raise ApplicationError(
            f"{application.name!r} counts a decision once it was activated, which players of a "
            f"world do not say; {remains}"
        )
    return application.actions


def played(history: History, ring: Ring, application: Application) -> Played:
    """All that has matured and whose outcomes make its reward.

    Args:
        application: as its file has it; of a file that gives rewards themselves, the history's
            own application has another rule.

    Raises:
        InvalidHistory: there is none.
    """
    slots = ring.slots(ring.tail, ring.head)
    slots = slots[ring.matured[slots] & ring.usable[slots]]
    kept, contexts, outcomes = [], [], []
    for slot in slots.tolist():
        text = history.contexts.get(ring.ids[slot])
        happened = _happenings(ring, slot, application)
        if text is None or happened is None:
            continue
        kept.append(slot)
        contexts.append(json.dumps(json.loads(text)))  # on one line
        outcomes.append(happened)
    if not kept:
        raise InvalidHistory(
            f"of {ring.size:,} decisions, {len(slots):,} have matured, and of none the outcomes "
            "that made its reward are known: a world plays outcomes by name, as the reward of "
            f"{application.name!r} has them ({application.reward.in_words()}), not rewards as such"
        )
    found = np.array(kept)
    rows = np.asarray(ring.action[found], dtype=np.float64)
    rows = rows[:, None] if ring.labels else rows
    return Played(found, ring.observation[found], rows, ring.reward[found], contexts, outcomes)


def as_world(application: Application, log: Played, *, seed: int = 0) -> FittedWorld:
    """A world fitted to these decisions."""
    space = check_kind(application)
    scale = fit_normaliser(application.encoder.bounds(), log.observations)
    model = fit_model(scale.apply(log.observations), log.rows, log.rewards, space, seed=seed)
    return FittedWorld(
        Fitted(
            application.name,
            application.contract,
            application.reward.fingerprint,
            tuple(application.observation),
            space,
            model.operations,
            model.arrays | scale.arrays(),
            log.contexts,
            log.rows,
            log.outcomes,
            log.rewards,
        )
    )


def _happenings(ring: Ring, slot: int, application: Application) -> list[Happening] | None:
    """What came of a decision within its window; None where it does not make its reward."""
    rule = application.reward
    times = DecisionTimes(int(ring.decided_at_ms[slot]), int(ring.received_at_ms[slot]))
    timed = [o.timed() for o in ring.known(slot).outcomes if o.kind == "reward"]
    until_ms = int(ring.matured_at_ms[slot])
    try:
        counted = rule.counted(times, timed, matured_at_ms=until_ms)
        reward = rule.value(counted)
    except Exception:  # the application's own function, of outcomes that it does not know
        return None
    if not abs(reward - ring.reward[slot]) <= ROUNDING * max(1.0, abs(reward)):
        return None
    # what has no weight is told too (guardrails read it); what came too late to count is not
    numbers = {outcome.outcome_id for outcome in counted}
    told = [o for o in timed if o.outcome_id in numbers or not rule.counted(times, [o])]
    return [
        Happening(after_ms / 1000, outcome.name or "", outcome.value)
        for outcome in told
        if (after_ms := delay_ms(times, outcome)) <= rule.window_ms
    ]
