"""What does a ring hold that other policies can be judged by, and what does each estimator say?

Bandits are judged by decisions, episodic problems by whole episodes. Only draws of a policy with
a propensity below 1 count (`ring.support`), only once they have matured, and in order up to the
first that is still open: else quick rewards would be heard before slow ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bakehouse_learner.offline.evaluation.target_policies import Target, distribution, propensity
from bakehouse_learner.ope import bandits, sequences
from bakehouse_learner.ope.cross_fit import FOLDS, cross_fitted_rewards
from bakehouse_learner.ope.diagnostics import missing_support
from bakehouse_learner.ope.estimate import Contributions, plain
from bakehouse_learner.ope.fitted_q import Transitions, fitted_q_values
from bakehouse_learner.ope.sequences import Episodes
from bakehouse_learner.replay.episodes import finished_episodes
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.training.batch import Rows
from bakehouse_learner.training.normaliser import Normaliser, fit_normaliser, static_normaliser
from bakehouse_schemas.application.application import Application, Episodic

MOST_TRANSITIONS = 50_000  # of one fit: the newest


class Material(NamedTuple):
    """Contributions of the same n units for every policy, and what was left out of them."""

    units: str  # "decisions" or "episodes"
    slots: np.ndarray  # int [n], of each unit's (first) decision
    logged: Contributions  # what was earned as it was played
    by_target: list[list[Contributions]]  # in the order of the targets
    unsupported: list[float]  # share of each target's mass that the log hardly tries
    left_out: dict[str, int]  # why → how many
    decisions: int  # in the ring


def material(
    ring: Ring, application: Application, targets: Sequence[Target], *, after_ms: int = -1
) -> Material:
    """Judge the targets by the decisions of a ring whose matured rows are marked.

    Args:
        after_ms: only decisions that the broker received later than this.
    """
    if isinstance(application.problem, Episodic):
        return _episodic(ring, application, application.problem, targets, after_ms)
    return _bandit(ring, application, targets, after_ms)


def _bandit(
    ring: Ring, application: Application, targets: Sequence[Target], after_ms: int
) -> Material:
    slots = ring.slots(ring.tail, ring.head)
    still_open = np.flatnonzero(~ring.matured[slots])
    known = slots[: still_open[0]] if len(still_open) else slots
    usable = known[ring.usable[known]]
    drawn = usable[ring.support[usable]]
    kept = drawn[ring.received_at_ms[drawn] > after_ms]
    others = usable[~ring.support[usable]]
    left_out = {
        "still open": len(slots) - len(known),
        "contested, or without a finite reward": len(known) - len(usable),
        "not drawn by chance (holdout, fallback, or the game did something else)": len(others),
        "already learned from": len(drawn) - len(kept),
    }
    scale = normaliser_of(ring, application)
    predicted = cross_fitted_rewards(
        _rows(ring, scale, kept),
        actions=ring.groups,
        also=_rows(ring, scale, others),
    )
    at = np.arange(len(kept))
    logged = ring.propensity[kept], ring.reward[kept]
    by_target, unsupported = [], []
    for target in targets:
        model = {"predicted": predicted[at, ring.bucket[kept]]}
        if ring.labels:
            chosen = distribution(target, ring, kept)
            log = (chosen[at, ring.action[kept]], *logged)
            model["predicted_mean"] = np.sum(chosen * predicted, axis=1)
            direct = [bandits.direct_method(model["predicted_mean"])]
            unsupported.append(missing_support(chosen, logged_at_least(ring, kept)))
        else:  # the model knows the context alone, which has the same mean under every policy
            log = (propensity(target, ring, kept), *logged)
            model["predicted_mean"] = model["predicted"]
            direct = []
            unsupported.append(0.0)
        by_target.append(
            [
                bandits.doubly_robust(*log, **model),
                bandits.switch_dr(*log, **model),
                bandits.snips(*log),
                bandits.ips(*log),
                bandits.clipped_ips(*log),
                *direct,
            ]
        )
    as_logged = plain("as logged", ring.reward[kept], np.ones(len(kept)))
    return Material("decisions", kept, as_logged, by_target, unsupported, left_out, len(slots))


def _episodic(
    ring: Ring,
    application: Application,
    problem: Episodic,
    targets: Sequence[Target],
    after_ms: int,
) -> Material:
    finished = finished_episodes(ring, problem)
    drawn = [e for e in finished.members if ring.support[e].all()]
    kept = [e for e in drawn if ring.received_at_ms[e[0]] > after_ms]
    left_out = {
        "still going on": finished.still_going_on,
        "contested, incomplete, or cut off by the timeout": finished.unusable,
        "not drawn by chance (holdout, fallback, or the game did something else)": (
            len(finished.members) - len(drawn)
        ),
        "already learned from": len(drawn) - len(kept),
    }
    slots = np.concatenate([np.zeros(0, dtype=np.int64), *kept])
    length = [len(e) for e in kept]
    step = np.concatenate([np.zeros(0, dtype=np.int64), *map(np.arange, length)])
    episode = np.repeat(np.arange(len(kept)), length)
    at = np.arange(len(slots))
    by_target, unsupported = [], []
    walks = _Walks(ring, normaliser_of(ring, application), finished.members, problem.discount)
    numbers = {int(e[0]): number for number, e in enumerate(finished.members)}
    fold = np.array([numbers[int(e[0])] for e in kept], dtype=np.int64)[episode] % FOLDS
    played = Episodes(
        episode, step, ring.propensity[slots], ring.propensity[slots], ring.reward[slots],
        problem.discount,
    )  # fmt: skip
    for target, q in zip(targets, walks.values(targets, slots, fold), strict=True):
        log = played._replace(target=propensity(target, ring, slots))
        said = [sequences.weighted_per_decision_is(log), sequences.per_decision_is(log)]
        missing = 0.0
        if ring.labels:
            chosen = distribution(target, ring, slots)
            missing = missing_support(chosen, logged_at_least(ring, slots))
            if q is not None:
                v = np.sum(chosen * q, axis=1)
                q_taken = q[at, ring.action[slots]]
                said.insert(0, sequences.doubly_robust_sequences(log, q_taken=q_taken, v=v))
                said.append(sequences.fitted_q_direct(v[step == 0]))
        by_target.append(said)
        unsupported.append(missing)
    first = np.array([e[0] for e in kept], dtype=np.int64)
    logged = sequences.logged_returns(played)
    return Material("episodes", first, logged, by_target, unsupported, left_out, ring.size)


class _Walks:
    """The transitions of finished episodes, and what fitted Q makes of them fold by fold."""

    def __init__(
        self, ring: Ring, scale: Normaliser, members: Sequence[np.ndarray], discount: float
    ) -> None:
        self._ring, self._scale = ring, scale
        none = np.zeros(0, dtype=np.int64)
        self._slots = np.concatenate([none, *members])
        # of the last step, which nothing follows: itself, with a discount of 0
        self._after = np.concatenate([none, *(np.append(e[1:], e[-1:]) for e in members)])
        self._episode = np.repeat(np.arange(len(members)), [len(e) for e in members])
        over = np.append(self._episode[1:] != self._episode[:-1], True)[: len(self._slots)]
        self._discount = np.where(over, 0.0, discount)

    def values(
        self, targets: Sequence[Target], slots: np.ndarray, fold: np.ndarray
    ) -> list[np.ndarray | None]:
        """Q of each target at these slots, by fits of other folds; None without one. `[n, A]`

        Args:
            fold: of each slot: its episode's place among the finished, modulo `FOLDS`. int `[n]`
        """
        ring, scale = self._ring, self._scale
        if not ring.labels:  # fitted Q is of labels
            return [None for _ in targets]
        shape = (len(slots), ring.eligible.shape[1])
        values: list[np.ndarray | None] = [np.zeros(shape) for _ in targets]
        chosen = [distribution(target, ring, self._after) for target in targets]
        for left_out in range(FOLDS):
            held_out = fold == left_out
            rows = np.flatnonzero(self._episode % FOLDS != left_out)[-MOST_TRANSITIONS:]
            if not held_out.any():
                continue
            if len(rows) == 0:
                return [None for _ in targets]
            transitions = Transitions(
                observation=scale.apply(ring.observation[self._slots[rows]]),
                action=ring.action[self._slots[rows]],
                reward=ring.reward[self._slots[rows]],
                discount=self._discount[rows],
                next_observation=scale.apply(ring.observation[self._after[rows]]),
                episode=self._episode[rows],
            )
            found = fitted_q_values(
                transitions,
                [after[rows] for after in chosen],
                scale.apply(ring.observation[slots[held_out]]),
            )
            for at, (whole, part) in enumerate(zip(values, found, strict=True)):
                if whole is not None and part is not None:
                    whole[held_out] = part
                else:
                    values[at] = None
        return values


def logged_at_least(ring: Ring, slots: np.ndarray) -> np.ndarray:
    """What the log's policy gave each action at least, float64 `[n, A]`; 0 where not eligible.

    Exact for the logged action. The others had at least the share of uniform exploration, which
    follows from the propensity where the policy's own probability is known
    (`bakehouse_schemas.execution.propensity`); where it is not, equal shares of the rest.
    """
    eligible, propensity = ring.eligible[slots], ring.propensity[slots]
    base = ring.base_propensity[slots]
    count = np.maximum(eligible.sum(axis=1), 1)
    least = (1.0 - propensity) / np.maximum(count - 1, 1)
    known = np.isfinite(base) & (np.abs(base - 1.0 / count) > 1e-9)
    explored = (propensity[known] - base[known]) / (1.0 / count[known] - base[known])
    least[known] = np.clip(explored, 0.0, 1.0) / count[known]
    logged = np.where(eligible, least[:, None], 0.0)
    logged[np.arange(len(slots)), ring.action[slots]] = propensity
    return np.asarray(logged)


def _rows(ring: Ring, scale: Normaliser, slots: np.ndarray) -> Rows:
    return Rows(scale.apply(ring.observation[slots]), ring.bucket[slots], ring.reward[slots])


def normaliser_of(ring: Ring, application: Application) -> Normaliser:
    """By the application's own bounds, else fitted to what the ring holds."""
    bounds = application.encoder.bounds()
    static = static_normaliser(bounds)
    if static is not None:
        return static
    if ring.size == 0:
        return Normaliser(
            np.zeros(len(bounds.low), np.float32), np.ones(len(bounds.low), np.float32), math.inf
        )
    return fit_normaliser(bounds, ring.observation[: ring.size])
