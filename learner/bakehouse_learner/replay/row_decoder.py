"""Arrow rows of the table `replay` → arrays and tuples that the ring takes in."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from bakehouse_learner.replay.arrow_columns import (
    COLUMNS,
    NESTED,
    array_of,
    float_lists,
    position_lists,
    values_of,
)
from bakehouse_learner.replay.folded_decision import (
    FoldedDecision,
    FoldedOutcome,
    Position,
    digest,
    merge,
)
from bakehouse_learner.replay.origin import UNKNOWN, Origin, Origins
from bakehouse_learner.replay.other_contracts import ActionGone, Known, OtherContracts, Then
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.errors import ApplicationError, InvalidContext, InvalidEvent
from bakehouse_schemas.events.checks import choices_of, eligible_mask, offered, problem_with_action
from bakehouse_schemas.execution.propensity import uniform_share

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
    remained: float = 1.0  # probability, then, that a label was drawn which still is there

    @property
    def propensity(self) -> float:
        """With which the action was drawn from among those that still are there."""
        known = self.known.propensity
        return known if self.remained == 1.0 else min(known / self.remained, 1.0)


class RowDecoder:
    """Decodes rows of one application; counts what it passes over.

    Rows of another contract are encoded anew: what they were encoded to is not looked at, however
    many numbers it has.

    Args:
        application: whose rows these are; its encoder makes observations where none was logged.
        known: see `bakehouse_learner.replay.other_contracts.OtherContracts`.
    """

    def __init__(self, application: Application, known: Known | None = None) -> None:
        self._application = application
        self._contract = application.contract
        self._others = OtherContracts(application, known)
        self._shape = application.shape
        self._origins = Origins(application.shape)
        self._everything = np.ones(self._shape.choices, dtype=bool)
        self._rows: dict[str, np.ndarray | None] = {}
        self._masks: dict[str, np.ndarray] = {}
        self._explorations: dict[str, tuple[float, float]] = {}  # text → ε, floor
        self.recoded = 0  # rows of another contract, encoded anew
        self.gone = 0  # rows of another contract whose action is none of ours
        self.refused = 0  # rows that cannot be encoded

    def decode(self, table: pa.Table) -> list[Arrival]:
        """The rows that can be learned from, in order."""
        columns = {name: values_of(table, name) for name in COLUMNS if name not in NESTED}
        observations = float_lists(table, "observation")
        positions = list(position_lists(array_of(table, "positions")))
        thens = self._thens(columns["contract"], columns["action_probabilities"])
        outcomes = list(self._outcome_lists(array_of(table, "outcomes"), thens))
        arrivals = []
        for at in range(table.num_rows):
            row = {name: values[at] for name, values in columns.items()}
            then = thens[at]
            try:
                if then is None:
                    arrival = self._arrival(row, observations[at], positions[at], *outcomes[at])
                else:
                    arrival = self._anew(row, then, positions[at], *outcomes[at])
                    self.recoded += arrival is not None
            except ActionGone:
                self.gone += 1
                continue
            except (ValueError, TypeError, KeyError, AttributeError):
                arrival = None  # not what its schema says: costs this row, not the others
            if arrival is None:
                self.refused += 1
            else:
                arrivals.append(arrival)
        return arrivals

    def _thens(self, contracts: list[Any], probabilities: list[Any]) -> list[Then | None]:
        """The contract that each row was written under; None where it is ours."""
        if contracts.count(self._contract) == len(contracts):
            return [None] * len(contracts)
        return [
            None if contract == self._contract else self._others.then(str(contract), logged)
            for contract, logged in zip(contracts, probabilities, strict=True)
        ]

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
        then: Then | None = None,
    ) -> Arrival | None:
        items, described = self._items(row["items"])
        count = None
        if then is None or items is not None:
            eligible = self._mask(row["eligible_actions"], items)
        else:
            eligible, count = self._others.eligible(then, row["eligible_actions"])
        action = self.action_row(row["action"], items, eligible)
        if action is None and then is not None:
            raise ActionGone(f"{row['action']!r:.60} is none of ours")
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
                row["exploration"], propensity, count or int(eligible.sum())
            ),
            successors=successors,
            items=described,
            origin=self._origins.of(row, density, eligible, ours=then is None),
        )

    def _anew(
        self,
        row: dict[str, Any],
        then: Then,
        positions: tuple[Position, ...],
        outcomes: tuple[FoldedOutcome, ...],
        successors: dict[str, Successor],
    ) -> Arrival | None:
        """A row of another contract, encoded from its context."""
        self._others.check(then)
        arrival = self._arrival(row, None, positions, outcomes, successors, then)
        lost, labels = self._others.gone(row["action_probabilities"])
        if arrival is None or not labels:
            return arrival
        remained = max(1.0 - lost, arrival.known.propensity)
        count = self._others.eligible(then, row["eligible_actions"]).of_then
        share = self._share(row["exploration"], count)
        own = max(lost - labels * share / count, 0.0) / (1.0 - share) if share < 1 else math.nan
        arrival = arrival._replace(remained=remained)
        return arrival._replace(
            support=arrival.support and arrival.propensity < 1,
            base_propensity=(
                min(arrival.base_propensity / (1.0 - own), 1.0) if own < 1 else math.nan
            ),
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
        self,
        observation: list[float] | None,
        context: str | None,
        mask: str | None,
        then: Then | None,
    ) -> Successor | None:
        """What follows a decision; None where it cannot be encoded.

        It was made under its predecessor's contract, as far as can be told from here; where its
        own row is resident, the ring goes by that.
        """
        logged = None if observation is None else np.array(observation, np.float32)
        try:
            encoded = self._observation(logged, context)
            if encoded is None:
                return None
            if then is None or self._shape.kind == "ranking":
                return encoded, self._mask(mask)
            return encoded, self._others.eligible(then, mask).mask
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
        share = self._share(exploration, eligible)
        if share >= 1.0:
            return math.nan
        return min(max((propensity - share / eligible) / (1.0 - share), 0.0), 1.0)

    def _share(self, exploration: str | None, eligible: int) -> float:
        """Of uniform choice among so many labels, as the log has it; 1 where it says nothing."""
        if exploration is None:
            return 1.0
        pair = self._explorations.get(exploration)
        if pair is None:
            described = json.loads(exploration)
            pair = (float(described.get("epsilon", 0.0)), float(described.get("floor", 0.0)))
            if len(self._explorations) >= _MASKS_REMEMBERED:
                self._explorations.clear()
            self._explorations[exploration] = pair
        epsilon, floor = pair
        return uniform_share(epsilon, floor, eligible)

    def _outcome_lists(
        self, array: pa.Array, thens: Sequence[Then | None]
    ) -> Iterator[tuple[tuple[FoldedOutcome, ...], dict[str, Successor]]]:
        offsets, structs = array.offsets.to_pylist(), array.values
        if len(structs) == 0:
            yield from (((), {}) for _ in range(len(array)))
            return
        fields = [structs.field(name).to_pylist() for name in FoldedOutcome._fields[:-1]]
        places = list(position_lists(structs.field("positions")))
        contexts = structs.field("next_context").to_pylist()
        masks = structs.field("next_eligible_actions").to_pylist()
        observations = structs.field("next_observation")
        for (start, stop), then in zip(pairwise(offsets), thens, strict=True):
            outcomes = []
            successors: dict[str, Successor] = {}
            for at in range(start, stop):
                if not places[at]:
                    continue
                outcome = FoldedOutcome._make([*(values[at] for values in fields), places[at]])
                outcomes.append(outcome)
                if outcome.next_decision_id is not None:
                    logged = None if then is not None else observations[at].as_py()
                    found = self._successor(logged, contexts[at], masks[at], then)
                    if found is not None:
                        successors[outcome.next_decision_id] = found
            yield tuple(outcomes), successors
