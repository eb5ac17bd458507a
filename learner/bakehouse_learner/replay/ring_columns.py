"""The columns of the resident buffer, written down once.

Allocation, what a row writes, what is cleared before a slot is used again, and the arrays of a
checkpoint all follow from the annotations of `RingColumns`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from operator import attrgetter
from typing import Annotated, Any, NamedTuple, get_type_hints

import numpy as np

from bakehouse_learner.replay.row_decoder import Arrival
from bakehouse_schemas.application.application import Application, Episodic


class Column(NamedTuple):
    """What one column holds.

    Args:
        dtype: NumPy's name, or a key of `_dtypes`.
        shape: of one decision's value, a key of `_shapes`.
        initial: value until something else is known.
        source: attribute of an `Arrival` that it is written from; None: `Ring` has its own way.
        optional: checkpoints of earlier releases lack it; they are restored at `initial`.
        saved_as: its name in checkpoints, where that is another.
    """

    dtype: str
    shape: str = "scalar"
    initial: float = 0
    source: str | None = None
    optional: bool = False
    saved_as: str | None = None


class RingColumns:
    """Arrays `[C, …]`, indexed by slot; C grows with the buffer."""

    observation: Annotated[np.ndarray, Column("float32", "context", source="observation")]
    eligible: Annotated[np.ndarray, Column("bool", "choices", source="eligible")]
    action: Annotated[np.ndarray, Column("action", "action")]  # as executed
    baseline: Annotated[np.ndarray, Column("action", "action", -1)]  # see `has_baseline`
    has_baseline: Annotated[np.ndarray, Column("bool")]  # the baseline answered
    items: Annotated[np.ndarray, Column("float32", "items")]  # of a ranking
    propensity: Annotated[np.ndarray, Column("float64", initial=1, source="propensity")]
    # broker time
    received_at_ms: Annotated[np.ndarray, Column("int64", source="known.received_at_ms")]
    decided_at_ms: Annotated[np.ndarray, Column("int64", source="decided_at_ms")]  # client time
    matured_at_ms: Annotated[np.ndarray, Column("int64")]  # broker time; nothing more is awaited
    policy_version: Annotated[np.ndarray, Column("int64", source="policy_version")]
    support: Annotated[np.ndarray, Column("bool", source="support")]  # importance weights may use
    holdout: Annotated[np.ndarray, Column("bool", source="holdout")]
    first: Annotated[np.ndarray, Column("bool", source="first")]  # begins an episode
    usable: Annotated[np.ndarray, Column("bool")]  # not contested and of a finite reward
    reward: Annotated[np.ndarray, Column("float64")]  # so far
    matured: Annotated[np.ndarray, Column("bool")]
    dirty: Annotated[np.ndarray, Column("bool")]  # new or amended since it was last trained on
    ended: Annotated[np.ndarray, Column("bool")]  # an `end` came
    timed_out: Annotated[np.ndarray, Column("bool")]  # no successor within the episode's timeout
    has_next: Annotated[np.ndarray, Column("bool")]
    next_observation: Annotated[np.ndarray, Column("float32", "next_context")]
    next_eligible: Annotated[np.ndarray, Column("bool", "next_choices")]
    # sequence numbers of the resident successor and predecessor, and of the decision in the slot
    next_sequence: Annotated[np.ndarray, Column("int64", initial=-1)]  # −1: none
    previous_sequence: Annotated[np.ndarray, Column("int64", initial=-1)]  # −1: none
    sequence: Annotated[np.ndarray, Column("int64", initial=-1)]  # −1: the slot is empty
    predicted: Annotated[np.ndarray, Column("bool")]  # the three below were recorded
    candidate: Annotated[np.ndarray, Column("density", "predicted")]
    anchor: Annotated[np.ndarray, Column("density", "predicted")]
    model: Annotated[np.ndarray, Column("float32", "predicted")]  # rewards
    era: Annotated[np.ndarray, Column("int64")]  # of the evaluation when it predicted
    # what the decision adds to each guardrail
    guarded: Annotated[np.ndarray, Column("float64", "guardrails", optional=True)]
    # the policy's probability of the action, exploration taken out
    base_propensity: Annotated[
        np.ndarray, Column("float64", source="base_propensity", saved_as="own")
    ]
    # see `bakehouse_learner.replay.origin`
    subject: Annotated[np.ndarray, Column("uint64", source="origin.subject", optional=True)]
    simulated: Annotated[np.ndarray, Column("bool", source="origin.simulated", optional=True)]
    cohort: Annotated[np.ndarray, Column("int8", source="origin.cohort", optional=True)]
    online: Annotated[np.ndarray, Column("bool", source="origin.online", optional=True)]
    explored: Annotated[np.ndarray, Column("bool", source="origin.explored", optional=True)]
    chance: Annotated[
        np.ndarray, Column("float64", initial=math.nan, source="origin.chance", optional=True)
    ]
    factors: Annotated[np.ndarray, Column("float64", "parts", optional=True)]
    # see `bakehouse_learner.replay.maturity`
    heard: Annotated[np.ndarray, Column("int8", optional=True)]

    def __init__(self, application: Application) -> None:
        dtypes, shapes = _dtypes(application), _shapes(application)
        self._layout = {
            name: (np.dtype(dtypes.get(column.dtype, column.dtype)), shapes[column.shape])
            for name, column in COLUMNS.items()
        }
        for name, (dtype, shape) in self._layout.items():
            setattr(self, name, np.zeros((0, *shape), dtype))
        self._bind()

    def _bind(self) -> None:
        """Look the arrays up once, not for every row."""
        self._cleared = [
            (getattr(self, name), column.initial)
            for name, column in COLUMNS.items()
            if column.source is None and 0 not in self._layout[name][1]
        ]
        self._from_arrival = [
            getattr(self, name) for name, column in COLUMNS.items() if column.source is not None
        ]

    def _allocate(self, slots: int, used: int) -> None:
        """Make room for so many slots; the first `used` stay as they are."""
        for name, (dtype, shape) in self._layout.items():
            grown = np.zeros((slots, *shape), dtype)
            grown[:used] = getattr(self, name)[:used]
            setattr(self, name, grown)
        self._bind()

    def _clear(self, slot: int) -> None:
        """Forget what the slot held, but for what `_copy_in` writes."""
        for column, initial in self._cleared:
            column[slot] = initial

    def _copy_in(self, slot: int, arrival: Arrival) -> None:
        """Write every column that has a source."""
        for column, value in zip(self._from_arrival, _VALUES(arrival), strict=True):
            column[slot] = value

    def _arrays(self, used: int) -> dict[str, np.ndarray]:
        """Copies of the first `used` slots of every column, by name in checkpoints."""
        return {
            column.saved_as or name: getattr(self, name)[:used].copy()
            for name, column in COLUMNS.items()
        }

    def _take_arrays(
        self, state: Mapping[str, Any], used: int, *, without: Collection[str] = ()
    ) -> None:
        """The inverse of `_arrays`.

        Args:
            without: columns whose values in the state are not to be used.

        Raises:
            ValueError: a column is missing, or of another shape.
        """
        for name, column in COLUMNS.items():
            dtype, shape = self._layout[name]
            expected = (used, *shape)
            saved: Any = None if name in without else state.get(column.saved_as or name)
            if saved is None and column.optional:
                saved = np.full(expected, column.initial)
            if saved is None:
                raise ValueError(f"ring column {name} is missing; expected {expected}")
            array = np.array(saved, dtype=dtype)
            if array.shape != expected:
                raise ValueError(f"ring column {name} has shape {array.shape}: expected {expected}")
            setattr(self, name, array)
        self._bind()


COLUMNS: dict[str, Column] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(RingColumns, include_extras=True).items()
}
_VALUES = attrgetter(*(column.source for column in COLUMNS.values() if column.source is not None))


def _dtypes(application: Application) -> dict[str, Any]:
    """Types that depend on the actions."""
    labels = application.shape.kind == "discrete"
    return {
        "action": np.int32 if labels else np.float64,  # a position, or numbers
        "density": np.float32 if labels else np.float64,  # a density may be beyond float32
    }


def _shapes(application: Application) -> dict[str, tuple[int, ...]]:
    """Shapes of one decision's values."""
    space = application.shape
    context, choices = (application.encoder.size,), (space.choices,)  # [D], [A]
    labels, episodic = space.kind == "discrete", isinstance(application.problem, Episodic)
    return {
        "scalar": (),
        "context": context,
        "choices": choices,
        "action": () if labels else (space.width,),  # [W]
        "items": (space.choices, space.features) if space.kind == "ranking" else (0, 0),  # [A, F]
        "next_context": context if episodic else (0,),
        "next_choices": choices if episodic else (0,),
        "predicted": choices if labels else (1,),  # of every label; else of the action taken
        "guardrails": (len(application.gate.guardrails),),
        "parts": (len(space.segments) if space.kind == "parts" else 0,),
    }
