"""Collects what the gate decides on: predictions when rows are read, rewards when they mature.

Predictions are recorded before any of the predictors has trained on the row, and completed in
the order of the decisions, so that quick rewards are not heard before slow ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bakehouse_learner.gate.guardrails import Guards
from bakehouse_learner.gate.progressive_evaluation import ProgressiveEvaluation
from bakehouse_learner.gate.rules import Evidence
from bakehouse_learner.ope.fitted_q import Choice, Transitions, fitted_q_difference
from bakehouse_learner.ope.ranking_difference import list_difference
from bakehouse_learner.ope.reward_model import RewardModel
from bakehouse_learner.ope.weighted_td import Steps, weighted_td_difference
from bakehouse_learner.replay.episodes import discounted, episodes_from, terminal_slots
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.statistics.confidence_sequence import Interval
from bakehouse_learner.statistics.recent_mean import RecentMean
from bakehouse_learner.training.apprentice import matches
from bakehouse_learner.training.normaliser import Normaliser, item_normaliser
from bakehouse_schemas.application.application import Application, Episodic
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.execution.base_policy import baseline_policy
from bakehouse_schemas.execution.propensity import propensities
from bakehouse_schemas.policy.policy import Policy

ESTIMATED_ROWS = 5_000  # recent transitions that a fitted-Q difference is over
ESTIMATE_EVERY_MS = 2_000
_UNKNOWN = Interval(0.0, -math.inf, math.inf, 0)


class _Told(NamedTuple):
    """A finished episode's return, its weight, and whose it is."""

    value: float
    weight: float
    subject: int


_TYPES = (np.float64, np.float64, np.uint64)


def baseline_distribution(ring: Ring, slots: np.ndarray) -> np.ndarray:
    """Probability one on the baseline's action, all zeros where it has none. float64 `[n, A]`"""
    distribution = np.zeros((len(slots), ring.eligible.shape[1]))
    known = np.flatnonzero(ring.has_baseline[slots])
    distribution[known, ring.baseline[slots[known]]] = 1.0
    return distribution


def distribution_of(policy: Policy | None, ring: Ring, slots: np.ndarray) -> np.ndarray:
    """What a policy (None: version 0, the baseline) answers to resident contexts. `[n, A]`"""
    if policy is None:
        return baseline_distribution(ring, slots)
    return policy.distribution(ring.observation[slots], ring.eligible[slots])


def propensity_of(
    policy: Policy | None, exploration: Exploration, ring: Ring, slots: np.ndarray
) -> np.ndarray:
    """Density with which a policy (None: version 0) would have executed resident actions. `[n]`

    The executed density is what is evaluated, never a deterministic action, which no logged
    number would ever equal.
    """
    shape, eligible = ring.shape, ring.eligible[slots]
    if policy is None:
        own = baseline_policy(shape, ring.baseline[slots], exploration)
    else:
        items = ring.items[slots] if shape.kind == "ranking" else None
        temperature = exploration.temperature if exploration.kind == "softmax" else None
        own = policy.base_policy(ring.observation[slots], eligible, items, temperature=temperature)
    return propensities(shape, own, eligible, ring.action[slots], exploration)


class Collector:
    """Evaluation of one application, fed from its ring.

    Args:
        normaliser: that of the policies; the reward model sees what they see.
    """

    def __init__(self, application: Application, ring: Ring, normaliser: Normaliser) -> None:
        self._application = application
        self._problem = application.problem
        self._ring = ring
        self._normaliser = normaliser
        self._ranks = application.shape.kind == "ranking"
        # too many paths, or lists, for importance weights: judged by what was earned
        self._by_returns = self._ranks or isinstance(application.problem, Episodic)
        self.evaluation = ProgressiveEvaluation(
            alpha=1.0 - application.gate.confidence,
            weight_cap=1.0 / application.exploration.floor,
        )
        # of other actions than labels, the model knows the context alone
        self.model = RewardModel(ring.groups, application.encoder.size)
        gate = application.gate
        self.guards = Guards(gate.guardrails, alpha=1.0 - gate.confidence)
        self.match = RecentMean()  # of the newest candidate with the baseline
        self.decided_by = np.zeros(0, np.int64)  # versions of policies: of what was completed last
        self._guarded_from = 0  # guardrails look at policies from this version on
        self.largest_reward = 0.0  # |reward| of matured decisions
        self._predicted = ring.tail  # sequences below have been offered for prediction
        self._completed = ring.tail  # sequences below have matured and been taken
        self._begun = ring.tail  # episodes that began below have been told
        self._estimate = _UNKNOWN
        self._estimated_at_ms = -ESTIMATE_EVERY_MS

    def replace_ring(self, ring: Ring) -> None:
        """Go on with a rebuilt ring, whose rows may have been trained on: none is evaluated."""
        self._ring = ring
        self._predicted = self._completed = self._begun = ring.head

    def predict(
        self, candidate: Policy | None, anchor: Policy | None, exploration: Exploration
    ) -> int:
        """Record predictions for rows read since the last call; returns how many.

        Args:
            exploration: with which both would be executed, where the action is no label.
        """
        ring = self._ring
        slots = ring.slots(max(self._predicted, ring.tail), ring.head)
        self._predicted = ring.head
        if candidate is not None:
            self._match(candidate, slots)
        if candidate is None or self._by_returns:
            return 0
        useful = ring.support[slots] & ring.usable[slots]
        if anchor is None:
            useful &= ring.has_baseline[slots]
        slots = slots[useful]
        if len(slots) == 0:
            return 0
        if ring.labels:
            ring.candidate[slots] = distribution_of(candidate, ring, slots)
            ring.anchor[slots] = distribution_of(anchor, ring, slots)
        else:
            zero = self._application.exploration.after(0)
            before = exploration if anchor is not None else zero
            ring.candidate[slots, 0] = propensity_of(candidate, exploration, ring, slots)
            ring.anchor[slots, 0] = propensity_of(anchor, before, ring, slots)
        ring.model[slots] = self.model.predict(self._normaliser.apply(ring.observation[slots]))
        ring.era[slots] = self.evaluation.era
        ring.predicted[slots] = True
        return len(slots)

    def _match(self, candidate: Policy, slots: np.ndarray) -> None:
        ring = self._ring
        slots = slots[ring.has_baseline[slots] & ring.usable[slots]]
        if len(slots) and ring.shape.kind != "ranking":
            own = candidate.base_policy(ring.observation[slots], ring.eligible[slots])
            baseline = ring.baseline[slots].reshape(len(slots), -1)
            self.match.update(matches(ring.shape, own, baseline))

    def complete(self) -> int:
        """Take decisions up to the first that is still open; returns how many were evaluated."""
        ring = self._ring
        self._completed = max(self._completed, ring.tail)
        slots = ring.slots(self._completed, ring.head)
        still_open = np.flatnonzero(~ring.matured[slots])
        slots = slots[: still_open[0]] if len(still_open) else slots
        self._completed += len(slots)
        slots = slots[ring.usable[slots]]
        self.decided_by = np.zeros(0, np.int64)
        if len(slots) == 0:
            return 0
        self.largest_reward = max(self.largest_reward, float(np.max(np.abs(ring.reward[slots]))))
        by_policy = slots[ring.support[slots] & (ring.policy_version[slots] > 0)]
        versions = ring.policy_version[by_policy]
        self.decided_by = versions
        guarded = by_policy[versions >= self._guarded_from]
        self.guards.update(ring.guarded[guarded], ring.guarded[slots])
        if self._by_returns:
            return 0
        evaluated = slots[ring.predicted[slots] & ring.support[slots]]
        if len(evaluated):
            self.evaluation.complete(
                candidate=ring.candidate[evaluated],
                anchor=ring.anchor[evaluated],
                model=ring.model[evaluated],
                action=ring.bucket[evaluated],
                propensity=ring.propensity[evaluated],
                reward=ring.reward[evaluated],
                era=ring.era[evaluated],
            )
        self.model.update(
            self._normaliser.apply(ring.observation[slots]),
            ring.bucket[slots],
            ring.reward[slots],
        )
        return len(evaluated)

    def begin_guards(self, version: int) -> None:
        """Forget what guardrails saw; from now on they look at policies from `version` on.

        What the policy that was stopped had decided before would else stop the next one.
        """
        self._guarded_from = version
        self.guards.begin()

    def tell_episodes(self) -> int:
        """Returns of finished episodes, in the order in which they began; how many were told.

        Of a bandit that ranks, each decision is an episode.
        """
        problem, ring = self._problem, self._ring
        if not self._by_returns:
            return 0
        discount = problem.discount if isinstance(problem, Episodic) else 1.0
        told: dict[bool, list[_Told]] = {True: [], False: []}
        episodes, self._begun = episodes_from(ring, max(self._begun, ring.tail), problem)
        for episode in episodes:
            self._tell(episode, discount, told)
        if told[True] or told[False]:
            policy, holdout = (
                [
                    np.array([one[at] for one in told[side]], dtype)
                    for at, dtype in enumerate(_TYPES)
                ]
                for side in (True, False)
            )
            self.evaluation.episode_returns(
                policy[0],
                holdout[0],
                policy[1],
                policy_subject=policy[2],
                holdout_subject=holdout[2],
            )
        return len(told[True]) + len(told[False])

    def _tell(self, slots: np.ndarray, discount: float, told: dict[bool, list[_Told]]) -> None:
        ring = self._ring
        value, subject = discounted(ring.reward[slots], discount), int(ring.subject[slots[0]])
        if ring.holdout[slots].all():
            told[False].append(_Told(value, 1.0, subject))
        elif (ring.support[slots] & (ring.policy_version[slots] > 0)).all():
            weight = float(np.prod(ring.own[slots] / ring.propensity[slots]))
            if math.isfinite(weight):
                told[True].append(_Told(value, weight, subject))

    def evidence(
        self,
        candidate: Policy | None,
        *,
        untried: bool,
        at_ms: int,
        exploration: Exploration,
    ) -> Evidence:
        """What the gate may hold a candidate against; see `bakehouse_learner.gate.rules.Evidence`.

        Args:
            exploration: with which the candidate would be executed.
            untried: no candidate of this life answers yet, so of episodic problems and rankings
                there is nothing but an estimate of what candidates would earn.
        """
        evaluation = self.evaluation
        if not self._by_returns:
            return Evidence(
                running=evaluation.difference,
                scale=evaluation.reward_std,
                effective_sample=evaluation.effective_sample,
                guardrails=tuple(self.guards.intervals()),
            )
        if untried and candidate is not None and at_ms - self._estimated_at_ms >= ESTIMATE_EVERY_MS:
            self._estimated_at_ms = at_ms
            if isinstance(self._problem, Episodic):
                self._estimate = self._of_episodes(candidate, self._problem.discount, exploration)
            else:
                self._estimate = self._of_lists(candidate)
        return Evidence(
            running=evaluation.episodes,
            scale=self._reward_std() if self._ranks else evaluation.return_std,
            effective_sample=float(evaluation.episodes.n),
            guardrails=tuple(self.guards.intervals()),
            leaving=self._estimate if untried else None,
            label=f"{self._method} difference, an estimate" if untried else "policy − holdout",
        )

    def _reward_std(self) -> float:
        """Of resident decisions that have matured: before anything was tried there is no other."""
        ring = self._ring
        slots = ring.slots(ring.tail, ring.head)
        known = ring.reward[slots][ring.usable[slots] & ring.matured[slots]]
        return float(known.std()) if len(known) else 0.0

    def _of_lists(self, candidate: Policy) -> Interval:
        """The candidate's most probable lists against the baseline's, over recent decisions."""
        ring = self._ring
        slots = ring.slots(ring.tail, ring.head)
        known = ring.usable[slots] & ring.matured[slots] & ring.has_baseline[slots]
        slots = slots[known][-ESTIMATED_ROWS:]
        if len(slots) == 0:
            return _UNKNOWN
        eligible, items = ring.eligible[slots], ring.items[slots]
        scores = np.where(
            eligible, candidate.scores(ring.observation[slots], items).astype(np.float64), -np.inf
        )
        wanted = np.argsort(-scores, axis=1, kind="stable")[:, : ring.shape.slots]
        there = np.take_along_axis(eligible, wanted, axis=1)
        return list_difference(
            self._normaliser.apply(ring.observation[slots]),
            item_normaliser(self._application).apply(items),
            ring.action[slots].astype(int),
            ring.reward[slots],
            candidate=np.where(there, wanted, -1),
            baseline=ring.baseline[slots].astype(int),
            confidence=self._application.gate.confidence,
        )

    @property
    def _method(self) -> str:
        """How what an untried candidate would earn is estimated."""
        if self._ranks:
            return "position-based"
        return "fitted-Q" if self._ring.labels else "weighted TD"

    def _of_episodes(
        self, candidate: Policy, discount: float, exploration: Exploration
    ) -> Interval:
        """What whole episodes would earn under the candidate against the baseline."""
        ring = self._ring
        # up to the first that is still open: an `end` closes a decision early, and of the newest
        # decisions those alone that ended would be known
        slots = ring.slots(ring.tail, max(self._completed, ring.tail))
        following = np.where(
            ring.next_sequence[slots] >= ring.tail, ring.next_sequence[slots] % ring.capacity, -1
        )
        over = terminal_slots(ring, self._problem)[slots]
        known = ring.usable[slots] & ring.matured[slots]
        known &= over | ((following >= 0) & ring.has_baseline[following])
        if not ring.labels:  # a point has no density, and version 0's is around the baseline
            known &= ring.support[slots] & ring.has_baseline[slots]
        kept = np.flatnonzero(known)[-ESTIMATED_ROWS:]
        slots, following, over = slots[kept], following[kept], over[kept]
        starts = slots[ring.first[slots] & ring.has_baseline[slots]]
        if len(slots) == 0 or len(starts) == 0:
            return _UNKNOWN
        after = np.where(over, slots, following)  # of a terminal step: anything that is finite
        transitions = Transitions(
            observation=self._normaliser.apply(ring.observation[slots]),
            action=ring.action[slots],
            reward=ring.reward[slots],
            discount=np.where(over, 0.0, discount),
            next_observation=self._normaliser.apply(ring.observation[after]),
            episode=_episode_roots(ring, slots),
        )
        begun = self._normaliser.apply(ring.observation[starts])
        confidence = self._application.gate.confidence
        if not ring.labels:
            zero = self._application.exploration.after(0)
            different = weighted_td_difference(
                Steps(
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
        """Everything: `json` as JSON carries it, the rest arrays."""
        return {
            "json": {
                "evaluation": self.evaluation.state(),
                "guards": self.guards.state(),
                "match": self.match.state(),
                "guarded_from": self._guarded_from,
                "largest_reward": self.largest_reward,
                "predicted": self._predicted,
                "completed": self._completed,
                "begun": self._begun,
                "estimate": [_finite(number) for number in self._estimate],
                "estimated_at_ms": self._estimated_at_ms,
            },
            "model": self.model.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the collector that gave `state` had never stopped."""
        saved = state["json"]
        self.evaluation.restore(saved["evaluation"])
        self.model.restore(state["model"])
        self.guards.restore(saved.get("guards", ()))  # none in checkpoints of earlier releases
        if "match" in saved:
            self.match.restore(saved["match"])
        self._guarded_from = saved.get("guarded_from", 0)
        self.largest_reward = saved["largest_reward"]
        self._predicted = saved["predicted"]
        self._completed = saved["completed"]
        self._begun = saved["begun"]
        mean, lower, upper, n = saved["estimate"]
        self._estimate = Interval(
            math.nan if mean is None else mean,
            -math.inf if lower is None else lower,
            math.inf if upper is None else upper,
            n,
        )
        self._estimated_at_ms = saved["estimated_at_ms"]


def _episode_roots(ring: Ring, slots: np.ndarray) -> np.ndarray:
    """The earliest resident decision of each one's episode, by sequence. int64 `[n]`"""
    root: np.ndarray = ring.sequence[slots]
    while True:
        previous = ring.previous_sequence[root % ring.capacity]
        moved = previous >= ring.tail
        if not moved.any():
            return root
        root = np.where(moved, previous, root)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
