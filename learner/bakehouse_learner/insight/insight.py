"""All figures of one application, counted from its ring and told as one record.

Nothing here changes what is learned: the ring is only read. Counts are of decisions as they stood
when they matured; what a late outcome amends afterwards moves `outcomes` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bakehouse_learner.gate.candidate import Candidate
from bakehouse_learner.insight.actions import ActionFigures
from bakehouse_learner.insight.candidates import Candidates
from bakehouse_learner.insight.cursor import Cursor
from bakehouse_learner.insight.drift import REFERENCE, Drift
from bakehouse_learner.insight.lift import Lift
from bakehouse_learner.insight.propensity_audit import PropensityAudit
from bakehouse_learner.insight.record import fitted, shortened
from bakehouse_learner.insight.sample_ratio import SampleRatio
from bakehouse_learner.insight.series import Series
from bakehouse_learner.insight.taken import Taken, ineligible, taken, uniform_propensity
from bakehouse_learner.ope.bandits import importance_weights
from bakehouse_learner.replay.episodes import discounted, episodes_from
from bakehouse_learner.replay.maturity import IN_TIME, LATE, NEVER
from bakehouse_learner.replay.origin import FALLBACK, HOLDOUT
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.statistics.recent_mean import RecentMean
from bakehouse_learner.training.plan import Plan
from bakehouse_schemas.application.application import Application, Episodic

_NOT_COUNTED = -1


class Insight:
    """Everything that is counted of one application, and the record that it makes.

    Args:
        policies: the folder that bundles are loaded from.
        rng: draws the decisions that are audited.
    """

    def __init__(
        self, application: Application, *, policies: Path, rng: np.random.Generator
    ) -> None:
        self._application = application
        self._problem = application.problem
        alpha = 1.0 - application.gate.confidence
        self._cursor = Cursor()
        self._episodes = Cursor()  # over decisions that begin an episode
        self._heard = np.zeros(0, dtype=np.int8)  # by slot, as it was counted
        self._head = 0  # of the ring, at the last look
        self._outcomes = np.zeros(3, dtype=np.int64)
        self.decisions = 0
        self._simulated = 0
        self._since_ms: int | None = None
        self._excluded = [0, 0]  # checked, violations
        self._explored = (RecentMean(), RecentMean())  # observed, expected
        self.lift = Lift(alpha)
        shape = application.shape
        names = application.actions.choices if shape.segments else ()
        self.series = Series(alpha, names)
        self.actions = ActionFigures(application, alpha)
        self.candidates = Candidates()
        self.sample_ratio = SampleRatio(application.rollout.holdout)
        self.drift = Drift(application.encoder)
        self.audit = PropensityAudit(application, policies, rng)
        self._told_checked = 0  # of the audit, when the last record was made
        self._changed = False

    def begin(self, ring: Ring) -> None:
        """Take what comes from now on alone: what is in the ring was decided elsewhere."""
        self._cursor.begin(ring)
        self._episodes.begin(ring)

    def go_on_in(self, ring: Ring) -> None:
        """Go on with a ring that was rebuilt from the table; nothing is counted twice."""
        self._cursor.go_on_in(ring)
        self._episodes.go_on_in(ring)
        counted = ring.slots(ring.tail, self._cursor.at)
        self._heard = np.full(ring.capacity, _NOT_COUNTED, dtype=np.int8)
        counted = counted[ring.usable[counted]]
        self._heard[counted] = ring.heard[counted]
        self._head = ring.head

    def offer(self, table: pa.Table, now_s: float) -> None:
        """Rows as they were read, for the audit; see `PropensityAudit.offer`."""
        self.audit.offer(table, now_s)

    def trained(self, candidate: Candidate, plan: Plan, mlflow_run: str | None) -> None:
        """A training is over."""
        self.candidates.add(candidate, plan, mlflow_run)
        self._changed = True

    def take(self, ring: Ring, stream_time_ms: int) -> None:
        """Count the decisions that have matured since the last call."""
        if len(self._heard) != ring.capacity:
            self._heard = np.full(ring.capacity, _NOT_COUNTED, dtype=np.int8)
        self._heard[ring.slots(max(self._head, ring.tail), ring.head)] = _NOT_COUNTED
        self._head = ring.head
        slots = self._cursor.take(ring, stream_time_ms)
        if len(slots):
            self._changed = True
            self._count(ring, slots)
        self._take_episodes(ring)
        self._hear(ring)

    def _count(self, ring: Ring, slots: np.ndarray) -> None:
        usable = slots[ring.usable[slots]]
        self._heard[usable] = ring.heard[usable]
        self._outcomes += np.bincount(ring.heard[usable], minlength=3)
        self.decisions += len(usable)
        self._simulated += int(np.count_nonzero(ring.simulated[usable]))
        placed = slots[ring.online[slots] & (ring.cohort[slots] != FALLBACK)]
        self.sample_ratio.add(ring.subject[placed], ring.cohort[placed] == HOLDOUT)
        if not len(usable):
            return
        first_ms = int(ring.received_at_ms[usable].min())
        self._since_ms = first_ms if self._since_ms is None else min(self._since_ms, first_ms)
        decisions = taken(ring, usable)
        told = usable[decisions.by_policy & np.isfinite(ring.chance[usable])]
        for mean, values in zip(
            self._explored, (ring.explored[told], ring.chance[told]), strict=True
        ):
            mean.update(values)
        wrong = ineligible(ring.shape, decisions.row, decisions.eligible)
        self._excluded[0] += len(wrong)
        self._excluded[1] += int(np.count_nonzero(wrong))
        if self.drift.counted(len(usable)):
            start, stop = self.drift.span(self._cursor.at)
            start = max(ring.tail, start)  # of the first some may be gone
            slots = ring.slots(start, min(max(stop, start + REFERENCE), self._cursor.at))
            self.drift.look(ring.observation[slots])
        self._count_earned(decisions)

    def _count_earned(self, decisions: Taken) -> None:
        by_policy, version = decisions.by_policy, decisions.version
        self.actions.add(decisions)
        mine = decisions.where(by_policy)
        self.series.count(mine.received_at_ms, mine.version, self.actions.choices(mine))
        self.lift.begin(decisions.received_at_ms[by_policy & (version > 0)])
        if isinstance(self._problem, Episodic):
            return  # a step is not what an episode is worth, by whatever weights
        value, at_ms = decisions.reward, decisions.received_at_ms
        self._add_values(at_ms, decisions.subject, value, by_policy, version > 0, decisions.holdout)
        chance = decisions.support
        weight = importance_weights(
            uniform_propensity(self._application.shape, decisions.eligible[chance]),
            decisions.propensity[chance],
        )
        self.series.add("random", at_ms[chance], value[chance], weight)

    def _add_values(
        self,
        at_ms: np.ndarray,
        subject: np.ndarray,
        value: np.ndarray,
        by_policy: np.ndarray,
        above_0: np.ndarray,
        holdout: np.ndarray,
    ) -> None:
        """Rewards or returns, float64 `[n]`, and whose they are, bool `[n]`."""
        self.lift.add(at_ms, subject, value, by_policy & above_0, holdout)
        # before version 0 was left it stands for the policies: that is where the line begins
        since_ms = self.lift.since_ms
        early = np.full(len(at_ms), True) if since_ms is None else at_ms < since_ms
        for line, rows in (("policy", by_policy & (above_0 | early)), ("holdout", holdout)):
            self.series.add(line, at_ms[rows], value[rows])

    def _take_episodes(self, ring: Ring) -> None:
        problem, cursor = self._problem, self._episodes
        if not isinstance(problem, Episodic):
            return
        cursor.catch_up(ring)
        episodes, at = episodes_from(ring, cursor.at, problem)
        first = np.array([episode[0] for episode in episodes], dtype=np.int64)
        cursor.moved(ring, first, at)
        if not episodes:
            return
        self._changed = True
        cohorts = [ring.cohort[episode] for episode in episodes]
        self._add_values(
            ring.received_at_ms[first],
            ring.subject[first],
            np.array([discounted(ring.reward[each], problem.discount) for each in episodes]),
            np.array([bool(((each != HOLDOUT) & (each != FALLBACK)).all()) for each in cohorts]),
            np.array([bool((ring.policy_version[each] > 0).all()) for each in episodes]),
            np.array([bool((each == HOLDOUT).all()) for each in cohorts]),
        )

    def _hear(self, ring: Ring) -> None:
        """Outcomes that came after their decision was counted."""
        before, now = self._heard[: ring.size], ring.heard[: ring.size]
        other = np.flatnonzero((before != now) & (before != _NOT_COUNTED))
        if len(other):
            self._changed = True
            self._outcomes -= np.bincount(before[other], minlength=3)
            self._outcomes += np.bincount(now[other], minlength=3)
            before[other] = now[other]

    def record(
        self, *, process: str, at_ms: int, match_rate: float | None
    ) -> dict[str, Any] | None:
        """A record of `status.v1`; None where nothing has changed since the last one.

        Args:
            process: of the learner.
            match_rate: how often the newest candidate answers as the baseline, where it is known.
        """
        if not self._changed and self.audit.checked == self._told_checked:
            return None
        self._changed, self._told_checked = False, self.audit.checked
        name = self._application.name
        return fitted(
            {
                "part": "learner",
                "process": f"{process}/insight/{name}",
                "at_ms": at_ms,
                "application": name,
                "insight": shortened(self.figures(match_rate))
                | {"candidates": self.candidates.figures()},
            }
        )

    def figures(self, match_rate: float | None) -> dict[str, Any]:
        """As JSON carries it."""
        observed, expected = self._explored
        return {
            "since_ms": self._since_ms,
            "decisions": self.decisions,
            "simulated": self._simulated,
            "skipped": self._cursor.skipped,
            "lift": self.lift.figures(),
            "outcomes": {
                "in_time": int(self._outcomes[IN_TIME]),
                "late": int(self._outcomes[LATE]),
                "never": int(self._outcomes[NEVER]),
            },
            "exploration": {
                "observed": observed.mean if observed.n else None,
                "expected": expected.mean if expected.n else None,
                "n": observed.n,
            },
            "series": self.series.figures(),
            "actions": self.actions.figures(),
            "trust": {
                "sample_ratio": self.sample_ratio.figures(),
                "audit": self.audit.figures(),
                "drift": self.drift.figures(),
                "drift_reference": self.drift.reference,
                "excluded": {"checked": self._excluded[0], "violations": self._excluded[1]},
                "match_rate": match_rate,
            },
        }

    def close(self) -> None:
        """End the audit's thread."""
        self.audit.close()

    def state(self) -> dict[str, Any]:
        """Everything: nested dictionaries of arrays and, under `json`, of what JSON carries."""
        return {
            "json": {
                "cursor": self._cursor.state(),
                "episodes": self._episodes.state(),
                "head": self._head,
                "outcomes": self._outcomes.tolist(),
                "decisions": self.decisions,
                "simulated": self._simulated,
                "since_ms": self._since_ms,
                "excluded": list(self._excluded),
                "explored": [mean.state() for mean in self._explored],
                "lift": self.lift.state(),
                "candidates": self.candidates.state(),
                "drift": self.drift.state(),
                "audit": self.audit.state(),
            },
            "heard": self._heard.copy(),
            "series": self.series.state(),
            "actions": self.actions.state(),
            "sample_ratio": self.sample_ratio.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the figures that gave `state` had never stopped.

        Raises:
            ValueError, KeyError, TypeError: the state is of other actions, or of another release.
        """
        saved = state["json"]
        self._cursor.restore(saved["cursor"])
        self._episodes.restore(saved["episodes"])
        self._head = int(saved["head"])
        self._outcomes = np.array(saved["outcomes"], dtype=np.int64)
        self.decisions, self._simulated = int(saved["decisions"]), int(saved["simulated"])
        self._since_ms = saved["since_ms"]
        self._excluded = [int(number) for number in saved["excluded"]]
        for mean, its in zip(self._explored, saved["explored"], strict=True):
            mean.restore(its)
        self.lift.restore(saved["lift"])
        self.candidates.restore(saved["candidates"])
        self.drift.restore(saved["drift"])
        self.audit.restore(saved["audit"])
        self._heard = state["heard"].astype(np.int8)
        self.series.restore(state["series"])
        self.actions.restore(state["actions"])
        self.sample_ratio.restore(state["sample_ratio"])
        self._changed = True
