"""The resident buffer: the last decisions as NumPy columns, in the order they were read.

A decision enters once and gets a sequence number; its slot is that number modulo the capacity.
What comes later amends it in place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bakehouse_learner.replay.folded_decision import (
    FoldedDecision,
    FoldedOutcome,
    decode,
    encode,
    merge,
)
from bakehouse_learner.replay.maturity import assess, guarded_values
from bakehouse_learner.replay.ring_columns import RingColumns
from bakehouse_learner.replay.row_decoder import Arrival, Successor
from bakehouse_schemas.application.application import Application, Episodic
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.application.reward import DecisionTimes, TimedOutcome

_FIRST_GROWTH = 1_024


class Ring(RingColumns):
    """Columns `[C, …]` of at most `training.buffer` decisions.

    Public arrays are indexed by slot; `slots(start, stop)` turns sequence numbers into slots.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._rule = application.reward
        self.episodic = isinstance(application.problem, Episodic)
        self._steps = application.problem.n_step if isinstance(application.problem, Episodic) else 1
        self.capacity = application.training.buffer
        self.shape = application.shape
        self.labels = self.shape.kind == "discrete"
        self.allocated = 0
        super().__init__(application)
        self.ids: list[str] = []
        self._known: list[bytes] = []  # what the fold needs of each, encoded
        self._next_id: dict[int, str] = {}  # slot → decision_id of its successor
        self._awaited: dict[str, int] = {}  # decision_id not yet here → its predecessor's sequence
        self._index: dict[str, int] = {}  # decision_id → slot
        self.fresh: dict[int, list[int]] = {}  # sequence → broker times of outcomes not trained on
        self.head = 0  # sequence of the next decision
        self.passed_by = 0  # rows of decisions older than what the buffer holds
        self._forgotten_ms = -1  # latest broker time of a decision that has left
        self._latest_decision_ms = -1
        self._latest_outcome_ms = -1

    @property
    def size(self) -> int:
        """Decisions resident."""
        return min(self.head, self.capacity)

    @property
    def tail(self) -> int:
        """Sequence of the oldest resident decision."""
        return self.head - self.size

    def slots(self, start: int, stop: int) -> np.ndarray:
        """Slots of the sequence numbers `[start, stop)`, in order."""
        return np.arange(start, stop) % self.capacity

    def newest(self, most: int) -> np.ndarray:
        """Slots of the newest decisions, in order."""
        return self.slots(max(self.head - most, self.tail), self.head)

    def slot_of(self, decision_id: str) -> int | None:
        """Slot of a resident decision."""
        return self._index.get(decision_id)

    def forget_before(self, received_at_ms: int) -> None:
        """Say that decisions received up to then exist, and were left out of the buffer."""
        self._forgotten_ms = max(self._forgotten_ms, received_at_ms)

    def reserve(self) -> None:
        """Allocate the first slots, still empty."""
        if self.allocated == 0:
            self._grow()

    def ingest(self, arrivals: Sequence[Arrival]) -> int:
        """Take rows in; returns how many decisions are new or amended.

        A row whose decision is not resident is either of a decision never read before (then the
        row, and what follows, is its whole history) or of one that has left the buffer: older
        than all that the buffer holds, so it is passed by. The two differ by broker time.
        """
        touched: dict[int, FoldedDecision] = {}
        for arrival in arrivals:
            self._see(arrival)
            slot = self._index.get(arrival.decision_id)
            if slot is None:
                if arrival.known.received_at_ms <= self._forgotten_ms:
                    self.passed_by += 1
                    continue
                slot = self._insert(arrival)
                new = arrival.known
            else:
                old = touched.get(slot) or self.known(slot)
                new = arrival.known
                if new != old:
                    new = merge(old, new)
                    if arrival.known.positions[0] < old.positions[0]:
                        self._write(slot, arrival)  # decision columns of the earliest copy
                if new == old:
                    continue
                self._note_fresh(slot, old, new)
            if self.episodic:
                self._link(slot, new, arrival.successors)
            touched[slot] = new
        changed = 0
        for slot, known in touched.items():
            self._known[slot] = encode(known)
            changed += self._assess(slot, known)
        return changed

    def known(self, slot: int) -> FoldedDecision:
        """What the fold needs of a resident decision."""
        return decode(self._known[slot])

    def _see(self, arrival: Arrival) -> None:
        self._latest_decision_ms = max(self._latest_decision_ms, arrival.known.received_at_ms)
        for outcome in arrival.known.outcomes:
            if outcome.kind != "next":
                self._latest_outcome_ms = max(self._latest_outcome_ms, outcome.received_at_ms)

    def known_until_ms(self, stream_time_ms: int) -> int:
        """Broker time up to which outcomes can be taken to be known.

        Stream time is certain and lags a second or two; rows run ahead of it. Both topics are
        read side by side, so what is behind both of their newest rows is in as well. The ages of
        open decisions must be measured to here: by an older clock, the quick rewards that have
        already come would be counted a second time among those that remain.
        """
        return max(stream_time_ms, min(self._latest_decision_ms, self._latest_outcome_ms))

    def _insert(self, arrival: Arrival) -> int:
        slot = self.head % self.capacity
        if self.head >= self.capacity:
            self._evict(slot)
        elif slot >= self.allocated:
            self._grow()
        self._clear(slot)
        self.sequence[slot] = self.head
        self.head += 1
        if slot == len(self.ids):
            self.ids.append(arrival.decision_id)
            self._known.append(b"")
        else:
            self.ids[slot] = arrival.decision_id
        self._index[arrival.decision_id] = slot
        self._write(slot, arrival)
        self.dirty[slot] = True
        self._note_fresh(slot, None, arrival.known)
        predecessor = self._awaited.pop(arrival.decision_id, None)
        if predecessor is not None and predecessor >= self.tail:
            self._join(predecessor % self.capacity, slot)
        return slot

    def _write(self, slot: int, arrival: Arrival) -> None:
        self._copy_in(slot, arrival)
        self.action[slot] = self._kept(arrival.action)
        self.has_baseline[slot] = arrival.baseline is not None
        if arrival.baseline is not None:
            self.baseline[slot] = self._kept(arrival.baseline)
        if arrival.items is not None:
            self.items[slot] = arrival.items
        if arrival.origin.factors:
            self.factors[slot] = arrival.origin.factors

    def _evict(self, slot: int) -> None:
        self._forgotten_ms = max(self._forgotten_ms, int(self.received_at_ms[slot]))
        del self._index[self.ids[slot]]
        self.fresh.pop(int(self.sequence[slot]), None)
        awaited = self._next_id.pop(slot, None)
        if awaited is not None and self._awaited.get(awaited) == self.sequence[slot]:
            del self._awaited[awaited]

    def _grow(self) -> None:
        self.allocated = min(max(2 * self.allocated, _FIRST_GROWTH), self.capacity)
        self._allocate(self.allocated, self.head)

    def _note_fresh(self, slot: int, old: FoldedDecision | None, new: FoldedDecision) -> None:
        if not new.outcomes:
            return
        seen = {outcome.outcome_id for outcome in old.outcomes} if old else set()
        times = [
            outcome.received_at_ms
            for outcome in new.outcomes
            if outcome.kind != "next" and outcome.outcome_id not in seen
        ]
        if times:
            self.fresh.setdefault(int(self.sequence[slot]), []).extend(times)

    def _link(self, slot: int, known: FoldedDecision, successors: Mapping[str, Successor]) -> None:
        outcome = known.first_of("next")
        if outcome is None or outcome.next_decision_id is None:
            return
        successor = outcome.next_decision_id
        if successor in successors and self._next_id.get(slot) != successor:
            self.next_observation[slot], self.next_eligible[slot] = successors[successor]
            self.has_next[slot] = True
            self._next_id[slot] = successor
            at = self._index.get(successor)
            if at is None:
                self._awaited[successor] = int(self.sequence[slot])
            else:
                self._join(slot, at)

    def _join(self, slot: int, successor: int) -> None:
        # by its own row: what is logged beside its predecessor may be of another contract
        self.next_observation[slot] = self.observation[successor]
        self.next_eligible[slot] = self.eligible[successor]
        self.next_sequence[slot] = self.sequence[successor]
        self.previous_sequence[successor] = self.sequence[slot]
        self.amended(slot)

    def _assess(self, slot: int, known: FoldedDecision) -> bool:
        """Reward and maturity from what is known; True where training should see it again."""
        times, outcomes = self._timed(slot, known)
        found = assess(self._rule, times, outcomes)
        self._guard(slot, known)
        usable = not known.contested and math.isfinite(found.reward)
        usable = usable and self._rule.is_active(times, outcomes)
        done = known.first_of("executed")
        executed = None if done is None else self._executed(done.executed_action)
        if executed is None and self._did_what_is_none_of_ours(done):
            usable = False  # what came of it came of something else
        reward = found.reward if usable else 0.0
        ended = any(outcome.kind == "end" for outcome in outcomes)
        same = executed is None or bool(np.all(executed == self.action[slot]))
        before = (self.reward[slot], self.usable[slot], self.ended[slot])
        self.matured_at_ms[slot] = found.matured_at_ms
        self.heard[slot] = found.heard
        self.reward[slot], self.usable[slot], self.ended[slot] = reward, usable, ended
        if not same:  # trained under what was done; no draw of the policy's
            self.action[slot], self.support[slot] = executed, False
        if before == (reward, usable, ended) and same and not self.dirty[slot]:
            return False
        self.amended(slot)
        return True

    def _timed(self, slot: int, known: FoldedDecision) -> tuple[DecisionTimes, list[TimedOutcome]]:
        times = DecisionTimes(int(self.decided_at_ms[slot]), known.received_at_ms)
        return times, [outcome.timed() for outcome in known.outcomes if outcome.kind != "next"]

    def _guard(self, slot: int, known: FoldedDecision) -> None:
        if guardrails := self._application.gate.guardrails:
            of_decision = self._timed(slot, known)
            self.guarded[slot] = guarded_values(guardrails, self._rule, *of_decision)

    def _kept(self, row: np.ndarray) -> Any:
        return int(row[0]) if self.labels else row

    def _executed(self, text: str | None) -> Any:
        """What the game did in place of the decision; None where it did, or said, nothing else.

        A ranking's ids mean nothing without its items, which are not kept: it counts as decided.
        """
        actions = self._application.actions
        if text is None or isinstance(actions, Ranking):
            return None
        action = json.loads(text)
        if actions.problem_with(action) is not None:
            return None
        return self._kept(actions.row_of(action))

    def _did_what_is_none_of_ours(self, done: FoldedOutcome | None) -> bool:
        """Whether the game did something that only another contract has, such as a label that is
        gone."""
        if done is None or done.executed_action is None:
            return False
        return not isinstance(self._application.actions, Ranking)

    @property
    def _guardrails(self) -> list[str]:
        return [guardrail.outcome for guardrail in self._application.gate.guardrails]

    @property
    def groups(self) -> int:
        """Groups of rewards that are told apart: one a label, of other actions one in all."""
        return self.shape.choices if self.labels else 1

    @property
    def bucket(self) -> np.ndarray:
        """Which group of rewards a decision belongs to: its label, else 0. int `[C]`"""
        if self.labels:
            return self.action
        return np.zeros(len(self.action), dtype=np.int32)

    def amended(self, slot: int) -> None:
        """Mark a decision, and those whose n-step return reaches it, for the next training."""
        self.dirty[slot] = True
        at = slot
        for _ in range(self._steps - 1):
            previous = int(self.previous_sequence[at])
            if previous < self.tail:
                return
            at = previous % self.capacity
            self.dirty[at] = True

    def mature(self, stream_time_ms: int) -> np.ndarray:
        """Mark what nothing more is awaited of, and dirty it; returns the slots."""
        used = np.arange(self.size)
        slots: np.ndarray = used[~self.matured[used] & self.is_mature(used, stream_time_ms)]
        self.matured[slots] = True
        self._amended_all(slots)
        return slots

    def is_mature(self, slots: np.ndarray, stream_time_ms: int) -> np.ndarray:
        """Which of these await nothing more at a stream time. Changes nothing; bool `[n]`."""
        until = self.matured_at_ms[slots]
        # what an outcome closed is closed, however far behind stream time may be
        closed = until < self.received_at_ms[slots] + self._rule.window_ms
        return np.asarray(self.matured[slots] | closed | (until <= stream_time_ms))

    def time_out(self, stream_time_ms: int) -> np.ndarray:
        """Mark decisions that had no successor within the episode's timeout; returns the slots."""
        problem = self._application.problem
        if not isinstance(problem, Episodic):
            return np.zeros(0, dtype=np.int64)
        timeout_ms = round(problem.timeout.total_seconds() * 1000)
        used = slice(0, self.size)
        alone = ~self.has_next[used] & ~self.ended[used] & ~self.timed_out[used]
        slots = np.flatnonzero(alone & (self.received_at_ms[used] + timeout_ms <= stream_time_ms))
        self.timed_out[slots] = True
        self._amended_all(slots)
        return slots

    def _amended_all(self, slots: np.ndarray) -> None:
        if self._steps == 1:
            self.dirty[slots] = True
        else:
            for slot in slots:
                self.amended(int(slot))

    def state(self) -> dict[str, Any]:
        """Everything, as arrays that no later change touches."""
        lists = {
            "next_id": list(self._next_id.items()),
            "awaited": list(self._awaited.items()),
            "fresh": [(sequence, list(times)) for sequence, times in self.fresh.items()],
            "head": self.head,
            "forgotten_ms": self._forgotten_ms,
            "latest_decision_ms": self._latest_decision_ms,
            "latest_outcome_ms": self._latest_outcome_ms,
            "passed_by": self.passed_by,
            "guardrails": self._guardrails,
        }
        return self._arrays(self.size) | {
            "json": lists,
            "ids": _as_bytes("\n".join(self.ids).encode()),
            "known": _as_bytes(b"\n".join(self._known)),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the ring that gave `state` had never stopped."""
        lists = state["json"]
        self.head = lists["head"]
        self.allocated = self.size
        others_now = lists.get("guardrails", []) != self._guardrails  # in the application
        # those are made again below
        self._take_arrays(state, self.size, without=("guarded",) if others_now else ())
        self.ids = _lines(state["ids"].tobytes().decode())
        self._known = [line.encode() for line in _lines(state["known"].tobytes().decode())]
        self._index = {decision_id: slot for slot, decision_id in enumerate(self.ids)}
        self._next_id = dict(lists["next_id"])
        self._awaited = dict(lists["awaited"])
        self.fresh = dict(lists["fresh"])
        self._forgotten_ms = lists["forgotten_ms"]
        self._latest_decision_ms = lists["latest_decision_ms"]
        self._latest_outcome_ms = lists["latest_outcome_ms"]
        self.passed_by = lists["passed_by"]
        if others_now:
            for slot in range(self.size):
                self._guard(slot, self.known(slot))


def _as_bytes(text: bytes) -> np.ndarray:
    return np.frombuffer(text, dtype=np.uint8)


def _lines(text: str) -> list[str]:
    return text.split("\n") if text else []
