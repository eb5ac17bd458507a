"""Collects what the gate decides on: predictions when rows are read, rewards when they mature.

Predictions are recorded before any of the predictors has trained on the row, and completed in
the order of the decisions, so that quick rewards do not count before slow ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bakehouse_learner.gate.action_probabilities import distribution_of, propensity_of
from bakehouse_learner.gate.guardrails import Guards
from bakehouse_learner.gate.leaving_estimate import LeavingEstimate
from bakehouse_learner.gate.progressive_evaluation import ProgressiveEvaluation
from bakehouse_learner.gate.report import Evidence
from bakehouse_learner.ope.reward_model import RewardModel
from bakehouse_learner.replay.episodes import discounted, episodes_from
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.statistics.recent_mean import RecentMean
from bakehouse_learner.training.apprentice import matches
from bakehouse_learner.training.normaliser import Normaliser
from bakehouse_schemas.application.application import Application, Episodic
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.policy.policy import Policy


class _EpisodeReturn(NamedTuple):
    """A finished episode's return, its weight, and whose it is."""

    value: float
    weight: float
    subject: int


_TYPES = (np.float64, np.float64, np.uint64)


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
        self._begun = ring.tail  # episodes that began below have been taken
        self._leaving = LeavingEstimate(application, normaliser)

    def replace_ring(self, ring: Ring) -> None:
        """Go on with a rebuilt ring, whose rows may have been trained on: none is evaluated."""
        self._ring = ring
        self._predicted = self._completed = self._begun = ring.head

    def carry_over(self, state: Mapping[str, Any] | None, anchor: int) -> None:
        """Go on where the collector of another contract ended, as far as it is about outcomes.

        The spread of rewards, how often the gate has begun to compare and what guardrails saw stay;
        rewards are modelled from the ring, and what compares policies starts over.

        Args:
            state: of that collector; None: there is none.
            anchor: the version that candidates are compared with.
        """
        if state is not None:
            saved = state["json"]
            self.evaluation.restore(saved["evaluation"])
            self.guards.restore(saved.get("guards", ()))
            self._guarded_from = saved.get("guarded_from", 0)
            self.largest_reward = saved["largest_reward"]
        self.evaluation.move_anchor(anchor)
        ring = self._ring
        slots = ring.slots(ring.tail, ring.head)
        slots = slots[ring.matured[slots] & ring.usable[slots]]
        if len(slots):
            observation, reward = ring.observation[slots], ring.reward[slots]
            self.largest_reward = max(self.largest_reward, float(np.max(np.abs(reward))))
            self.model.update(self._normaliser.apply(observation), ring.bucket[slots], reward)

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
            base_policy = candidate.base_policy(ring.observation[slots], ring.eligible[slots])
            baseline = ring.baseline[slots].reshape(len(slots), -1)
            self.match.update(matches(ring.shape, base_policy, baseline))

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

    def take_episodes(self) -> int:
        """Take finished episodes' returns, in the order in which they began; returns how many.

        Of a bandit that ranks, each decision is an episode.
        """
        problem, ring = self._problem, self._ring
        if not self._by_returns:
            return 0
        discount = problem.discount if isinstance(problem, Episodic) else 1.0
        returns: dict[bool, list[_EpisodeReturn]] = {True: [], False: []}
        episodes, self._begun = episodes_from(ring, max(self._begun, ring.tail), problem)
        for episode in episodes:
            self._take(episode, discount, returns)
        if returns[True] or returns[False]:
            policy, holdout = (
                [
                    np.array([one[at] for one in returns[side]], dtype)
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
        return len(returns[True]) + len(returns[False])

    def _take(
        self, slots: np.ndarray, discount: float, returns: dict[bool, list[_EpisodeReturn]]
    ) -> None:
        ring = self._ring
        value, subject = discounted(ring.reward[slots], discount), int(ring.subject[slots[0]])
        if ring.holdout[slots].all():
            returns[False].append(_EpisodeReturn(value, 1.0, subject))
        elif (ring.support[slots] & (ring.policy_version[slots] > 0)).all():
            weight = float(np.prod(ring.base_propensity[slots] / ring.propensity[slots]))
            if math.isfinite(weight):
                returns[True].append(_EpisodeReturn(value, weight, subject))

    def evidence(
        self,
        candidate: Policy | None,
        *,
        untried: bool,
        at_ms: int,
        exploration: Exploration,
    ) -> Evidence:
        """What the gate may hold a candidate against; see `bakehouse_learner.gate.report.Evidence`.

        Args:
            exploration: with which the candidate would be executed.
            untried: no candidate of this run answers yet, so of episodic problems and rankings
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
        if untried and candidate is not None:
            self._leaving.update(
                candidate,
                self._ring,
                up_to=self._completed,
                exploration=exploration,
                at_ms=at_ms,
            )
        return Evidence(
            running=evaluation.episodes,
            scale=self._reward_std() if self._ranks else evaluation.return_std,
            effective_sample=float(evaluation.episodes.n),
            guardrails=tuple(self.guards.intervals()),
            leaving=self._leaving.interval if untried else None,
            label=self._leaving.label if untried else "policy − holdout",
        )

    def _reward_std(self) -> float:
        """Of resident decisions that have matured: before anything was tried there is no other."""
        ring = self._ring
        slots = ring.slots(ring.tail, ring.head)
        known = ring.reward[slots][ring.usable[slots] & ring.matured[slots]]
        return float(known.std()) if len(known) else 0.0

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
                **self._leaving.state(),
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
        self._leaving.restore(saved)
