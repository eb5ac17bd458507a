"""Arrow rows of the table `replay` → arrays and tuples that the ring takes in."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from learner.known import Known, KnownOutcome, Position, digest, merge
from schemas.application import Application
from schemas.errors import ApplicationError, InvalidContext

COLUMNS = [
    "decision_id",
    "contract",
    "previous_decision_id",
    "decided_at_ms",
    "context",
    "observation",
    "eligible_actions",
    "action",
    "propensity",
    "baseline_action",
    "policy_version",
    "exploration",
    "mode",
    "cohort",
    "outcomes",
    "positions",
    "contested",
]
_MASKS_REMEMBERED = 10_000
Successor = tuple[np.ndarray, np.ndarray]  # observation float32 [D], eligible bool [A]


class Arrival(NamedTuple):
    """One row of the table, encoded."""

    decision_id: str
    known: Known
    observation: np.ndarray  # float32 [D]
    eligible: np.ndarray  # bool [A]
    action: int
    baseline: int  # −1: the baseline has no answer to this context
    decided_at_ms: int
    policy_version: int
    support: bool  # drawn by a policy with a propensity below 1: importance weights may use it
    holdout: bool
    first: bool  # no predecessor: an episode begins
    own: float  # the policy's own probability of the action, exploration taken out; NaN: unknown
    successors: dict[str, Successor]  # by decision_id, of the `next` outcomes in this row


class Decoder:
    """Decodes rows of one application; counts what it passes over.

    Args:
        application: whose rows these are; its encoder makes observations where none was logged.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._actions = len(application.actions)
        self._everything = np.ones(self._actions, dtype=bool)
        self._positions: dict[str, int | None] = {}
        self._masks: dict[str, np.ndarray] = {}
        self._explorations: dict[str, tuple[float, float]] = {}  # text → ε, floor
        self.foreign = 0  # rows of another contract: history, not ours to learn from
        self.refused = 0  # rows that cannot be encoded

    def decode(self, table: pa.Table) -> list[Arrival]:
        """The rows that can be learned from, in order."""
        columns = {name: _values(table, name) for name in COLUMNS if name not in _NESTED}
        observations = _float_lists(table, "observation")
        positions = list(_position_lists(_array(table, "positions")))
        outcomes = list(self._outcome_lists(_array(table, "outcomes")))
        arrivals = []
        for at in range(table.num_rows):
            if columns["contract"][at] != self._application.contract:
                self.foreign += 1
                continue
            row = {name: values[at] for name, values in columns.items()}
            try:
                arrival = self._arrival(row, observations[at], positions[at], *outcomes[at])
            except (ValueError, TypeError, KeyError, AttributeError):
                arrival = None  # not what its schema says: costs this row, not the others
            if arrival is None:
                self.refused += 1
            else:
                arrivals.append(arrival)
        return arrivals

    def action_position(self, text: str | None) -> int | None:
        """Index of an action in JSON text; None where it is none of ours."""
        if text is None:
            return None
        if text not in self._positions:
            label = json.loads(text)
            known = self._application.actions.position(label) if isinstance(label, str) else None
            self._positions[text] = known
        return self._positions[text]

    def _arrival(
        self,
        row: dict[str, Any],
        observation: np.ndarray | None,
        positions: tuple[Position, ...],
        outcomes: tuple[KnownOutcome, ...],
        successors: dict[str, Successor],
    ) -> Arrival | None:
        action = self.action_position(row["action"])
        encoded = self._observation(observation, row["context"])
        propensity = row["propensity"]
        if action is None or encoded is None or not positions or not 0 < propensity <= 1:
            return None
        known = Known(
            row["action"],
            propensity,
            digest(row["context"]),
            positions,
            outcomes,
            bool(row["contested"]),
        )
        if len(outcomes) > 1:
            known = merge(known, known)  # one row may hold an outcome twice
        policy = row["cohort"] == "policy" and row["mode"] != "apprentice"
        eligible = self._mask(row["eligible_actions"])
        return Arrival(
            decision_id=row["decision_id"],
            known=known,
            observation=encoded,
            eligible=eligible,
            action=action,
            baseline=self._baseline(row["baseline_action"], row["context"]),
            decided_at_ms=int(row["decided_at_ms"]),
            policy_version=int(row["policy_version"]),
            support=policy and propensity < 1,
            holdout=row["cohort"] == "holdout",
            first=row["previous_decision_id"] is None,
            own=self._own(row["exploration"], propensity, int(eligible.sum())),
            successors=successors,
        )

    def _observation(self, logged: np.ndarray | None, context: str | None) -> np.ndarray | None:
        if logged is None:
            if context is None:
                return None
            try:
                logged = self._application.encoder.encode(json.loads(context))
            except InvalidContext:
                return None
        fits = logged.shape == (self._application.encoder.size,)
        return logged if fits and bool(np.isfinite(logged).all()) else None

    def _successor(
        self, observation: list[float] | None, context: str | None, mask: str | None
    ) -> Successor | None:
        """What follows a decision; None where it cannot be encoded, as under another contract."""
        logged = None if observation is None else np.array(observation, np.float32)
        try:
            encoded = self._observation(logged, context)
            return None if encoded is None else (encoded, self._mask(mask))
        except ValueError:
            return None

    def _mask(self, text: str | None) -> np.ndarray:
        if text is None:
            return self._everything
        mask = self._masks.get(text)
        if mask is None:
            mask = np.zeros(self._actions, dtype=bool)
            for label in json.loads(text):
                position = self._application.actions.position(label)
                if position is not None:
                    mask[position] = True
            if not mask.any():
                mask = self._everything
            if len(self._masks) >= _MASKS_REMEMBERED:
                self._masks.clear()
            self._masks[text] = mask
        return mask

    def _baseline(self, text: str | None, context: str) -> int:
        position = self.action_position(text)
        if position is None:
            try:
                label = self._application.baseline_action(json.loads(context))
            except ApplicationError:
                return -1
            position = self._application.actions.position(label)
        return -1 if position is None else position

    def _own(self, exploration: str | None, propensity: float, eligible: int) -> float:
        """Invert `(1 − ε)·own + ε/|eligible|`; see `schemas.propensity`."""
        if exploration is None:
            return math.nan
        if exploration not in self._explorations:
            described = json.loads(exploration)
            pair = (float(described.get("epsilon", 0.0)), float(described.get("floor", 0.0)))
            if len(self._explorations) >= _MASKS_REMEMBERED:
                self._explorations.clear()
            self._explorations[exploration] = pair
        epsilon, floor = self._explorations[exploration]
        share = min(1.0, max(epsilon, floor * eligible))
        if share >= 1.0:
            return math.nan
        return min(max((propensity - share / eligible) / (1.0 - share), 0.0), 1.0)

    def _outcome_lists(
        self, array: pa.Array
    ) -> Iterator[tuple[tuple[KnownOutcome, ...], dict[str, Successor]]]:
        offsets, structs = array.offsets.to_pylist(), array.values
        if len(structs) == 0:
            yield from (((), {}) for _ in range(len(array)))
            return
        fields = [structs.field(name).to_pylist() for name in KnownOutcome._fields[:-1]]
        places = list(_position_lists(structs.field("positions")))
        contexts = structs.field("next_context").to_pylist()
        masks = structs.field("next_eligible_actions").to_pylist()
        observations = structs.field("next_observation")
        for start, stop in pairwise(offsets):
            outcomes = []
            successors: dict[str, Successor] = {}
            for at in range(start, stop):
                if not places[at]:
                    continue
                outcome = KnownOutcome._make([*(values[at] for values in fields), places[at]])
                outcomes.append(outcome)
                if outcome.next_decision_id is not None:
                    found = self._successor(observations[at].as_py(), contexts[at], masks[at])
                    if found is not None:
                        successors[outcome.next_decision_id] = found
            yield tuple(outcomes), successors


_NESTED = frozenset({"observation", "outcomes", "positions"})


def _array(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks()


def _values(table: pa.Table, name: str) -> list[Any]:
    values: list[Any] = table.column(name).to_pylist()
    return values


def _float_lists(table: pa.Table, name: str) -> list[np.ndarray | None]:
    array = _array(table, name)
    offsets = array.offsets.to_pylist()
    numbers = array.values.to_numpy(zero_copy_only=False).astype(np.float32)
    valid = array.is_valid().to_pylist()
    return [
        numbers[start:stop] if there else None
        for start, stop, there in zip(offsets[:-1], offsets[1:], valid, strict=True)
    ]


def _position_lists(array: pa.Array) -> Iterator[tuple[Position, ...]]:
    offsets, structs = array.offsets.to_pylist(), array.values
    fields = [structs.field(name).to_pylist() for name in Position._fields]
    places = [Position(*values) for values in zip(*fields, strict=True)]
    for start, stop in pairwise(offsets):
        if stop - start == 1:
            yield (places[start],)
        else:
            yield tuple(sorted(set(places[start:stop])))
