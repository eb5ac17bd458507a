"""What would a candidate earn that nobody has tried, over whole episodes or of rankings?

To leave version 0 the gate needs a number before the candidate has answered anyone. Of labels and
single decisions the paired difference has one; here it is estimated from the log, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bakehouse_learner.gate.action_probabilities import (
    baseline_distribution,
    distribution_of,
    propensity_of,
)
from bakehouse_learner.ope.fitted_q import Choice, Transitions, fitted_q_difference
from bakehouse_learner.ope.ranking_difference import ranking_difference
from bakehouse_learner.ope.weighted_td import LoggedSteps, weighted_td_difference
from bakehouse_learner.replay.episodes import terminal_slots
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.statistics.confidence_sequence import Interval
from bakehouse_learner.training.normaliser import Normaliser, item_normaliser
from bakehouse_schemas.application.application import Application, Episodic
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.policy.policy import Policy

MOST_ROWS = 5_000  # the most recent, that an estimate is over
EVERY_MS = 2_000
_UNKNOWN = Interval(0.0, -math.inf, math.inf, 0)


class LeavingEstimate:
    """Candidate − baseline with its interval, made again now and then.

    Args:
        application: episodic, or with actions that are rankings.
        normaliser: that of the policies.
    """

    def __init__(self, application: Application, normaliser: Normaliser) -> None:
        self._application = application
        self._normaliser = normaliser
        self.interval = _UNKNOWN
        self._estimated_at_ms = -EVERY_MS

    @property
    def label(self) -> str:
        """What `interval` is, and how it was made."""
        shape = self._application.shape
        if shape.kind == "ranking":
            method = "position-based"
        else:
            method = "fitted-Q" if shape.kind == "discrete" else "weighted TD"
        return f"{method} difference, an estimate"

    def update(
        self,
        candidate: Policy,
        ring: Ring,
        *,
        up_to: int,
        exploration: Exploration,
        at_ms: int,
    ) -> None:
        """Estimate again, if the last estimate is old enough.

        Args:
            up_to: sequence below which all decisions have matured.
            exploration: with which the candidate would be executed.
        """
        if at_ms - self._estimated_at_ms < EVERY_MS:
            return
        self._estimated_at_ms = at_ms
        problem = self._application.problem
        if isinstance(problem, Episodic):
            self.interval = self._of_episodes(candidate, ring, problem, up_to, exploration)
        else:
            self.interval = self._of_rankings(candidate, ring)

    def _of_rankings(self, candidate: Policy, ring: Ring) -> Interval:
        """The candidate's most probable lists against the baseline's, over recent decisions."""
        slots = ring.slots(ring.tail, ring.head)
        known = ring.usable[slots] & ring.matured[slots] & ring.has_baseline[slots]
        slots = slots[known][-MOST_ROWS:]
        if len(slots) == 0:
            return _UNKNOWN
        eligible, items = ring.eligible[slots], ring.items[slots]
        scores = np.where(
            eligible, candidate.scores(ring.observation[slots], items).astype(np.float64), -np.inf
        )
        wanted = np.argsort(-scores, axis=1, kind="stable")[:, : ring.shape.slots]
        there = np.take_along_axis(eligible, wanted, axis=1)
        return ranking_difference(
            self._normaliser.apply(ring.observation[slots]),
            item_normaliser(self._application).apply(items),
            ring.action[slots].astype(int),
            ring.reward[slots],
            candidate=np.where(there, wanted, -1),
            baseline=ring.baseline[slots].astype(int),
            confidence=self._application.gate.confidence,
        )

    def _of_episodes(
        self,
        candidate: Policy,
        ring: Ring,
        problem: Episodic,
        up_to: int,
        exploration: Exploration,
    ) -> Interval:
        """What whole episodes would earn under the candidate against the baseline."""
        # up to the first that is still open: an `end` closes a decision early, and of the newest
        # decisions those alone that ended would be known
        slots = ring.slots(ring.tail, max(up_to, ring.tail))
        following = np.where(
            ring.next_sequence[slots] >= ring.tail, ring.next_sequence[slots] % ring.capacity, -1
        )
        over = terminal_slots(ring, problem)[slots]
        known = ring.usable[slots] & ring.matured[slots]
        known &= over | ((following >= 0) & ring.has_baseline[following])
        if not ring.labels:  # a point has no density, and version 0's is around the baseline
            known &= ring.support[slots] & ring.has_baseline[slots]
        kept = np.flatnonzero(known)[-MOST_ROWS:]
        slots, following, over = slots[kept], following[kept], over[kept]
        starts = slots[ring.first[slots] & ring.has_baseline[slots]]
        if len(slots) == 0 or len(starts) == 0:
            return _UNKNOWN
        after = np.where(over, slots, following)  # of a terminal step: anything that is finite
        transitions = Transitions(
            observation=self._normaliser.apply(ring.observation[slots]),
            action=ring.action[slots],
            reward=ring.reward[slots],
            discount=np.where(over, 0.0, problem.discount),
            next_observation=self._normaliser.apply(ring.observation[after]),
            episode=_episode_roots(ring, slots),
        )
        begun = self._normaliser.apply(ring.observation[starts])
        confidence = self._application.gate.confidence
        if not ring.labels:
            zero = self._application.exploration.after(0)
            different = weighted_td_difference(
                LoggedSteps(
                    transitions.observation,
                    transitions.reward,
                    transitions.discount,
                    transitions.next_observation,
                    transitions.episode,
                    ring.propensity[slots],
                ),
                begun,
                candidate=propensity_of(candidate, exploration, ring, slots),
                version_0=propensity_of(None, zero, ring, slots),
                most_weight=1.0 / self._application.exploration.floor,
                confidence=confidence,
            )
            return Interval(different.estimate, different.lower, different.upper, different.steps)
        found = fitted_q_difference(
            transitions,
            begun,
            candidate=Choice(
                distribution_of(candidate, ring, after), distribution_of(candidate, ring, starts)
            ),
            baseline=Choice(
                baseline_distribution(ring, after), baseline_distribution(ring, starts)
            ),
            confidence=confidence,
        )
        return Interval(found.estimate, found.lower, found.upper, found.transitions)

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        return {
            "estimate": [number if math.isfinite(number) else None for number in self.interval],
            "estimated_at_ms": self._estimated_at_ms,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if what gave `state` had never stopped."""
        mean, lower, upper, n = state["estimate"]
        self.interval = Interval(
            math.nan if mean is None else mean,
            -math.inf if lower is None else lower,
            math.inf if upper is None else upper,
            n,
        )
        self._estimated_at_ms = state["estimated_at_ms"]


def _episode_roots(ring: Ring, slots: np.ndarray) -> np.ndarray:
    """The earliest resident decision of each one's episode, by sequence. int64 `[n]`"""
    root: np.ndarray = ring.sequence[slots]
    while True:
        previous = ring.previous_sequence[root % ring.capacity]
        moved = previous >= ring.tail
        if not moved.any():
            return root
        root = np.where(moved, previous, root)
