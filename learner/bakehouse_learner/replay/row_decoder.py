"""Arrow rows of the table `replay` → arrays and tuples that the ring takes in."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from bakehouse_learner.replay.folded_decision import (
    FoldedDecision,
    FoldedOutcome,
    Position,
    digest,
    merge,
)
from bakehouse_learner.replay.origin import UNKNOWN, Origin, Origins
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.errors import ApplicationError, InvalidContext, InvalidEvent
from bakehouse_schemas.events.checks import choices_of, eligible_mask, offered, problem_with_action

COLUMNS = [
    "decision_id",
    "contract",
    "subject_id",
    "previous_decision_id",
    "decided_at_ms",
    "context",
    "observation",
    "eligible_actions",
    "items",
    "action",
    "propensity",
    "action_probabilities",
    "density",
    "baseline_action",
    "policy_version",
    "exploration",
    "draw",
    "mode",
    "cohort",
    "explored",
    "outcomes",
    "positions",
    "contested",
]
_MASKS_REMEMBERED = 10_000
Successor = tuple[np.ndarray, np.ndarray]  # observation float32 [D], eligible bool [A]


class Arrival(NamedTuple):
    """One row of the table, encoded."""

    decision_id: str
    known: FoldedDecision
    observation: np.ndarray  # float32 [D]
    eligible: np.ndarray  # bool [A]
    action: np.ndarray  # float64 [W], see `bakehouse_schemas.application.shape.Shape`
    baseline: np.ndarray | None  # float64 [W]; None: the baseline has no answer to this context
    decided_at_ms: int
    policy_version: int
    support: bool  # drawn by a policy with a propensity below 1: importance weights may use it
    holdout: bool
    first: bool  # no predecessor: an episode begins
    base_propensity: (
        float  # the policy's own probability of the action, exploration taken out; NaN: unknown
    )
    successors: dict[str, Successor]  # by decision_id, of the `next` outcomes in this row
    items: np.ndarray | None = None  # float32 [A, F], of a ranking
    origin: Origin = UNKNOWN


class RowDecoder:
    """Decodes rows of one application; counts what it passes over.

    Args:
        application: whose rows these are; its encoder makes observations where none was logged.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._shape = application.shape
        self._origins = Origins(application.shape)
        self._everything = np.ones(self._shape.choices, dtype=bool)
        self._rows: dict[str, np.ndarray | None] = {}
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

    def action_row(
        self,
        text: str | None,
        items: list[Any] | None = None,
        eligible: np.ndarray | None = None,
    ) -> np.ndarray | None:
        """An action in JSON text as numbers, float64 `[W]`; None where it is none of ours."""
        if text is None:
            return None
        if text in self._rows:
            return self._rows[text]
        actions, action = self._application.actions, json.loads(text)
        row = None
        if problem_with_action(self._application, action, items, eligible) is None:
            row = actions.row_of(action, items)
        if self._shape.kind == "discrete":  # the others are hardly ever the same twice
            self._rows[text] = row
        return row

    def _arrival(
        self,
        row: dict[str, Any],
        observation: np.ndarray | None,
        positions: tuple[Position, ...],
        outcomes: tuple[FoldedOutcome, ...],
        successors: dict[str, Successor],
    ) -> Arrival | None:
        items, described = self._items(row["items"])
        eligible = self._mask(row["eligible_actions"], items)
        action = self.action_row(row["action"], items, eligible)
        encoded = self._observation(observation, row["context"])
        propensity = row["propensity"]
        if action is None or encoded is None or not positions or not propensity > 0:
            return None
        if propensity > 1 and not self._shape.dims:
            return None
        known = FoldedDecision(
            row["action"],
            propensity,
            digest(row["context"]),
            positions,
            outcomes,
            bool(row["contested"]),
        )
        if len(outcomes) > 1:
            known = merge(known, known)  # one row may hold an outcome twice
        policy = row["cohort"] in ("policy", "canary")
        density = None if row["density"] is None else json.loads(row["density"])
        return Arrival(
            decision_id=row["decision_id"],
            known=known,
            observation=encoded,
            eligible=eligible,
            action=action,
            baseline=self._baseline(row["baseline_action"], row["context"], items, eligible),
            decided_at_ms=int(row["decided_at_ms"]),
            policy_version=int(row["policy_version"]),
            support=policy and self._drawn(density, propensity),
            holdout=row["cohort"] == "holdout",
            first=row["previous_decision_id"] is None,
            base_propensity=self._base_propensity(
                row["exploration"], propensity, int(eligible.sum())
            ),
            successors=successors,
            items=described,
            origin=self._origins.of(row, density, eligible),
        )

    def _drawn(self, density: dict[str, Any] | None, propensity: float) -> bool:
        """Whether chance had a say: a sure answer supports no importance weight."""
        if not self._shape.dims and not propensity < 1:
            return False
        return density is None or density.get("kind") != "point"

    def _items(self, text: str | None) -> tuple[list[Any] | None, np.ndarray | None]:
        """A request's items, and their features. Raises ValueError where they cannot be ranked."""
        actions = self._application.actions
        if not isinstance(actions, Ranking):
            return None, None
        items = json.loads(text or "null")
        if (problem := actions.problem_with_items(items)) is not None:
            raise ValueError(problem)
        try:
            return items, actions.encode_items(items)
        except InvalidContext as error:
            raise ValueError(str(error)) from None

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

    def _mask(self, text: str | None, items: list[Any] | None = None) -> np.ndarray:
        if items is None:
            if text is None:
                return self._everything
            if (known := self._masks.get(text)) is not None:
                return known
        there = set(choices_of(self._application, items))
        listed = None if text is None else [name for name in json.loads(text) if name in there]
        try:
            mask = eligible_mask(self._application, eligible=listed or None, items=items)
        except InvalidEvent:
            mask = self._everything
        if items is None:
            assert text is not None
            if len(self._masks) >= _MASKS_REMEMBERED:
                self._masks.clear()
            self._masks[text] = mask
        return mask

    def _baseline(
        self, text: str | None, context: str, items: list[Any] | None, eligible: np.ndarray
    ) -> np.ndarray | None:
        row = self.action_row(text, items, eligible)
        if row is not None:
            return row
        try:
            action = self._application.baseline_action(
                json.loads(context), offered(items, eligible)
            )
        except ApplicationError:
            return None
        return self._application.actions.row_of(action, items)

    def _base_propensity(self, exploration: str | None, propensity: float, eligible: int) -> float:
        """Invert `(1 − ε)·base + ε/|eligible|`; see `bakehouse_schemas.execution.propensity`.

        Of other actions than labels it is the executed propensity: they are judged as executed.
        """
        if exploration is None:
            return math.nan
        if self._shape.kind != "discrete":
            return propensity
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
    ) -> Iterator[tuple[tuple[FoldedOutcome, ...], dict[str, Successor]]]:
        offsets, structs = array.offsets.to_pylist(), array.values
        if len(structs) == 0:
            yield from (((), {}) for _ in range(len(array)))
            return
        fields = [structs.field(name).to_pylist() for name in FoldedOutcome._fields[:-1]]
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
                outcome = FoldedOutcome._make([*(values[at] for values in fields), places[at]])
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
