"""When an experience is mature, and what reward to train on before it is. Pure.

Rows never enter because an outcome came, nor wait because none did: that favours quick rewards.
A decision trains from its arrival, at the reward so far plus the mean remaining reward of
matured decisions of its action that were still open at its age.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bakehouse_schemas.application.reward import (
    DecisionTimes,
    Reward,
    TimedOutcome,
    delay_ms,
    matured_at_ms,
)
from bakehouse_schemas.application.rollout import Guardrail

EDGES = 64  # ages at which remaining rewards are kept; closer together where rewards are young
HISTORY = 20_000  # matured decisions that the means are over
# A reward beyond this is no reward: policies are float32, which ends at 3.4e38, and a score may
# be ten times what an episode adds up to.
LARGEST_REWARD = 1e30


NEVER, IN_TIME, LATE = range(3)


class Assessment(NamedTuple):
    """What the outcomes known so far make of a decision."""

    reward: float  # so far; NaN where the application's function failed or left its range
    matured_at_ms: int  # broker time from which nothing more is awaited
    heard: int  # IN_TIME: of an outcome that was known then; LATE: only later; NEVER


def assess(rule: Reward, times: DecisionTimes, outcomes: Sequence[TimedOutcome]) -> Assessment:
    """Reward so far and time of maturity from all outcomes that are known."""
    at_ms = matured_at_ms(rule, times, outcomes)
    value = _value(rule, times, outcomes, at_ms)
    return Assessment(value, at_ms, _heard(rule, times, outcomes, at_ms))


def _heard(
    rule: Reward, times: DecisionTimes, outcomes: Sequence[TimedOutcome], matured_at_ms: int
) -> int:
    """Whether anything came of a decision: what the reward is made of, or its end."""
    heard = NEVER
    for outcome in outcomes:
        if outcome.kind == "end" or rule.weighs(outcome):
            inside = delay_ms(times, outcome) <= rule.window_ms
            if inside and outcome.received_at_ms <= matured_at_ms:
                return IN_TIME
            heard = LATE
    return heard


def _value(
    rule: Reward, times: DecisionTimes, outcomes: Sequence[TimedOutcome], matured_at_ms: int
) -> float:
    try:
        value = rule.value(rule.counted(times, outcomes, matured_at_ms=matured_at_ms))
        return value if abs(value) <= LARGEST_REWARD else math.nan
    except Exception:  # the application's own function: one bad row must not stop the learning
        return math.nan


def guarded_values(
    guardrails: Sequence[Guardrail],
    rule: Reward,
    times: DecisionTimes,
    outcomes: Sequence[TimedOutcome],
) -> list[float]:
    """What a decision adds to each guardrail's mean: the sum of its outcomes within the window.

    An outcome without value counts 1, so that the mean is a frequency.
    """
    values = [0.0] * len(guardrails)
    for outcome in outcomes:
        for at, guardrail in enumerate(guardrails):
            counts = outcome.kind == "reward" and outcome.name == guardrail.outcome
            if counts and delay_ms(times, outcome) <= rule.window_ms:
                values[at] += 1.0 if outcome.value is None else outcome.value
    return values


def edges_ms(window_ms: int, edges: int = EDGES) -> np.ndarray:
    """Ages from 0 to the window, growing as squares. float64 `[edges + 1]`"""
    return np.asarray(window_ms * (np.arange(edges + 1) / edges) ** 2)


class Curve(NamedTuple):
    """A matured decision's remaining reward by age, and whether it was still open then."""

    remaining: np.ndarray  # float64 [K], reward in the end less reward so far at each edge
    open: np.ndarray  # bool [K]


def curve(
    rule: Reward, times: DecisionTimes, outcomes: Sequence[TimedOutcome], edges: np.ndarray
) -> Curve:
    """Remaining reward at each age, as it was known at that age (by arrival at the broker)."""
    if not outcomes:
        return Curve(np.zeros(len(edges)), edges < rule.window_ms)
    by_arrival = sorted(outcomes, key=lambda outcome: outcome.received_at_ms)
    at_ms = matured_at_ms(rule, times, outcomes)
    arrivals = [outcome.received_at_ms - times.received_at_ms for outcome in by_arrival]
    known = np.searchsorted(arrivals, edges, side="right")  # outcomes known at each edge
    values = {
        int(n): _value(rule, times, by_arrival[:n], at_ms)
        for n in {*known.tolist(), len(by_arrival)}
    }
    so_far = np.array([values[int(n)] for n in known])
    age_closed = at_ms - times.received_at_ms
    return Curve(values[len(by_arrival)] - so_far, edges < age_closed)


class RemainingReward:
    """Mean remaining reward by action and age, over a bounded recent history.

    Args:
        actions: number of actions, A.
        window_ms: after which nothing remains.
        history: matured decisions kept.
    """

    def __init__(self, actions: int, window_ms: int, *, history: int = HISTORY) -> None:
        self.edges = edges_ms(window_ms)
        width = len(self.edges)
        self._history = history
        self._next = 0  # decisions ever added
        self._action = np.zeros(history, dtype=np.int32)
        self._remaining = np.zeros((history, width), dtype=np.float64)
        self._open = np.zeros((history, width), dtype=bool)
        self._sums = np.zeros((actions, width))
        self._counts = np.zeros((actions, width))

    def add(self, action: int, at: Curve) -> None:
        """Take one matured decision, in decision order; what is not finite is left out."""
        if not np.all(np.isfinite(at.remaining)):
            return
        slot = self._next % self._history
        if self._next >= self._history:
            gone = self._action[slot]
            self._sums[gone] -= self._remaining[slot] * self._open[slot]
            self._counts[gone] -= self._open[slot]
        self._action[slot] = action
        self._remaining[slot] = at.remaining
        self._open[slot] = at.open
        self._sums[action] += at.remaining * at.open
        self._counts[action] += at.open
        self._next += 1
        if self._next % self._history == 0:
            self._recount()  # adding and subtracting for ever would drift

    def _recount(self) -> None:
        used = min(self._next, self._history)
        self._sums[:] = 0.0
        self._counts[:] = 0.0
        np.add.at(self._sums, self._action[:used], self._remaining[:used] * self._open[:used])
        np.add.at(self._counts, self._action[:used], self._open[:used])

    def mean(self, action: np.ndarray, age_ms: np.ndarray) -> np.ndarray:
        """Expected rest of the reward of open decisions; 0 where nothing is known yet.

        Args:
            action: int `[n]`
            age_ms: time since the decision, by the broker's clock. `[n]`

        Returns:
            float64 `[n]`, linear between the edges.
        """
        means = self._means()
        age = np.clip(age_ms, 0, self.edges[-1])
        right = np.clip(np.searchsorted(self.edges, age, side="right"), 1, len(self.edges) - 1)
        left = right - 1
        share = (age - self.edges[left]) / (self.edges[right] - self.edges[left])
        return np.asarray((1 - share) * means[action, left] + share * means[action, right])

    @property
    def groups(self) -> int:
        """Actions that are told apart, A."""
        return len(self._counts)

    def _means(self) -> np.ndarray:
        """Mean at each edge; where nobody was open, that of the last edge with somebody. [A, K]"""
        known = self._counts > 0
        means = np.divide(self._sums, self._counts, out=np.zeros_like(self._sums), where=known)
        known[:, 0] = True
        known[:, -1] = True  # at the end of the window nothing remains
        last_known = np.maximum.accumulate(np.where(known, np.arange(len(self.edges)), 0), axis=1)
        return np.take_along_axis(means, last_known, axis=1)

    @property
    def matured(self) -> int:
        """Decisions ever added."""
        return self._next

    def state(self) -> dict[str, np.ndarray]:
        """Everything, as arrays."""
        used = min(self._next, self._history)
        return {
            "next": np.array(self._next),
            "action": self._action[:used].copy(),
            "remaining": self._remaining[:used].copy(),
            "open": self._open[:used].copy(),
            "sums": self._sums.copy(),
            "counts": self._counts.copy(),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue as if what gave `state` had never stopped."""
        self._next = int(state["next"])
        used = min(self._next, self._history)
        self._action[:used] = state["action"]
        self._remaining[:used] = state["remaining"]
        self._open[:used] = state["open"]
        self._sums[:] = state["sums"]
        self._counts[:] = state["counts"]
