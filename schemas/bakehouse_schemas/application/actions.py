"""What can be decided: one label, numbers in a box, several at once, or a ranked list of items.

Each kind says the same of itself: how many choices a mask covers, how many bounded numbers it
has, and how an action as JSON carries it becomes a row of numbers and back. `Shape` is what
remains when the names are taken away; policies and propensities need no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bakehouse_schemas.application.ranking import Item, Ranking
from bakehouse_schemas.application.shape import Shape, discrete_shape
from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.numbers import in_short, is_finite, is_text, is_whole

MOST_NUMBERS = 256  # of a continuous action


@dataclass(frozen=True, init=False)
class Discrete:
    """One of some labelled actions.

    Args:
        labels: at least two, all different.
        features: numbers that describe each action, by label, all of one length; an agent that
            reads them carries over what it learned of one action to others like it.
    """

    labels: tuple[str, ...]
    features: Mapping[str, tuple[float, ...]] | None
    kind = "discrete"

    def __init__(self, *labels: str, features: Mapping[str, Sequence[float]] | None = None) -> None:
        if len(labels) == 1 and isinstance(labels[0], (list, tuple)):
            raise ApplicationError(
                f"Discrete({in_short(labels[0])}): write the labels one by one, "
                f"Discrete({', '.join(map(in_short, labels[0]))})"
            )
        for label in labels:
            if not is_text(label):
                raise ApplicationError(
                    f"Discrete(…, {in_short(label)}): a label is a text of 1 to 200 characters, "
                    "none of them a control character"
                )
        if len(labels) < 2 or len(set(labels)) != len(labels):
            raise ApplicationError(
                f"Discrete{labels!r}: give at least two labels, all different; with one there is "
                "nothing to decide"
            )
        object.__setattr__(self, "labels", tuple(labels))
        object.__setattr__(self, "features", _checked_features(labels, features))
        object.__setattr__(self, "_positions", {label: at for at, label in enumerate(labels)})

    def __len__(self) -> int:
        return len(self.labels)

    def position(self, label: str) -> int | None:
        """Index of a label inside this process (events carry labels), None if unknown."""
        positions: dict[str, int] = self._positions  # type: ignore[attr-defined]
        return positions.get(label)

    @cached_property
    def shape(self) -> Shape:
        """This space in numbers."""
        length = 0 if self.features is None else len(self.features[self.labels[0]])
        return discrete_shape(len(self.labels))._replace(features=length)

    @property
    def choices(self) -> tuple[str, ...]:
        """Names of what a mask covers."""
        return self.labels

    def feature_array(self) -> np.ndarray | None:
        """Features of every action, in order of the labels. float32 `[A, F]`"""
        if self.features is None:
            return None
        return np.array([self.features[label] for label in self.labels], dtype=np.float32)

    def problem_with(self, action: Any, _items: Sequence[Item] | None = None) -> str | None:
        """What is wrong with an action as JSON carries it; None where it is one of these."""
        if isinstance(action, str) and self.position(action) is not None:
            return None
        return f"expected one of {list(self.labels)}"

    def row_of(self, action: Any, _items: Sequence[Item] | None = None) -> np.ndarray:
        """An action without problems as numbers. float64 `[W]`"""
        return np.array([self.position(action)], dtype=np.float64)

    def action_of(self, row: np.ndarray, _items: Sequence[Item] | None = None) -> Any:
        """The action of a row, as JSON carries it."""
        return self.labels[int(row[0])]

    def described(self) -> Any:
        """What goes into the contract's fingerprint."""
        if self.features is None:
            return list(self.labels)
        return {label: list(self.features[label]) for label in self.labels}


def _checked_features(
    labels: Sequence[str], features: Mapping[str, Sequence[float]] | None
) -> Mapping[str, tuple[float, ...]] | None:
    if features is None:
        return None
    if not isinstance(features, Mapping) or set(features) != set(labels):
        came = sorted(features) if isinstance(features, Mapping) else in_short(features)
        raise ApplicationError(
            f"Discrete(features={came!r:.120}): expected numbers for each label, of {list(labels)}"
        )
    lengths = set()
    for label, numbers in features.items():
        if isinstance(numbers, str) or not isinstance(numbers, Iterable):
            raise ApplicationError(
                f"Discrete(features={{{label!r}: {in_short(numbers)}}}): expected a list of numbers"
            )
        if not all(is_finite(number) for number in numbers):
            raise ApplicationError(
                f"Discrete(features={{{label!r}: {in_short(numbers)}}}): expected finite numbers"
            )
        lengths.add(len(list(numbers)))
    if len(lengths) != 1 or 0 in lengths:
        raise ApplicationError(
            f"Discrete(features=…): lists of {sorted(lengths)} numbers; expected the same length "
            "for each label, at least 1"
        )
    return {label: tuple(float(n) for n in features[label]) for label in labels}


@dataclass(frozen=True, init=False)
class Continuous:
    """Numbers in a box, such as a boss's health or a price.

    Args:
        low, high: bounds, each a number or a list of as many numbers as the action has.
        length: how many numbers; needed where both bounds are single numbers and there are more.

    An action is a list of numbers.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    kind = "continuous"

    def __init__(
        self, *, low: float | Sequence[float], high: float | Sequence[float], length: int = 1
    ) -> None:
        if not is_whole(length, 1, MOST_NUMBERS):
            raise ApplicationError(
                f"Continuous(length={in_short(length)}): from 1 to {MOST_NUMBERS} numbers"
            )
        lows, highs = _bounds("low", low, length), _bounds("high", high, length)
        if len(lows) != len(highs):
            if len(lows) == 1:
                lows *= len(highs)
            elif len(highs) == 1:
                highs *= len(lows)
            else:
                raise ApplicationError(
                    f"Continuous(low={list(lows)}, high={list(highs)}): {len(lows)} and "
                    f"{len(highs)} numbers; expected as many"
                )
        for at, (least, most) in enumerate(zip(lows, highs, strict=True)):
            if not least < most:
                raise ApplicationError(
                    f"Continuous: low {least:g} is not below high {most:g} (number {at})"
                )
        object.__setattr__(self, "low", lows)
        object.__setattr__(self, "high", highs)

    @property
    def length(self) -> int:
        """Numbers of an action, d."""
        return len(self.low)

    @cached_property
    def shape(self) -> Shape:
        """This space in numbers."""
        return Shape("continuous", 1, (), np.array(self.low), np.array(self.high))

    @property
    def choices(self) -> tuple[str, ...]:
        """Names of what a mask covers: the one box."""
        return ("box",)

    def problem_with(self, action: Any, _items: Sequence[Item] | None = None) -> str | None:
        """What is wrong with an action as JSON carries it; None where it is one of these."""
        if not isinstance(action, (list, tuple)) or len(action) != self.length:
            return f"expected a list of {self.length} numbers"
        for at, (number, least, most) in enumerate(zip(action, self.low, self.high, strict=True)):
            if not is_finite(number) or not least <= number <= most:
                return f"number {at} is {in_short(number)}; expected from {least:g} to {most:g}"
        return None

    def row_of(self, action: Any, _items: Sequence[Item] | None = None) -> np.ndarray:
        """An action without problems as numbers. float64 `[W]`"""
        return np.array(action, dtype=np.float64)

    def action_of(self, row: np.ndarray, _items: Sequence[Item] | None = None) -> Any:
        """The action of a row, as JSON carries it."""
        return [float(number) for number in row]

    def described(self) -> Any:
        """What goes into the contract's fingerprint."""
        return {"low": list(self.low), "high": list(self.high)}


def _bounds(what: str, given: Any, length: int) -> tuple[float, ...]:
    numbers = given if isinstance(given, (list, tuple)) else [given] * length
    if not numbers or len(numbers) > MOST_NUMBERS or not all(is_finite(n) for n in numbers):
        raise ApplicationError(
            f"Continuous({what}={in_short(given)}): expected a finite number, or a list of up to "
            f"{MOST_NUMBERS}"
        )
    if length not in (1, len(numbers)):
        raise ApplicationError(
            f"Continuous({what}={in_short(given)}, length={length}): {len(numbers)} bounds for "
            f"{length} numbers"
        )
    return tuple(float(number) for number in numbers)


@dataclass(frozen=True, init=False)
class Parts:
    """Several decisions at once, such as `Parts({"mode": Discrete(…), "level": Continuous(…)})`.

    An action is an object with each part's own action.
    """

    parts: Mapping[str, Discrete | Continuous]
    kind = "parts"

    def __init__(self, parts: Mapping[str, Discrete | Continuous]) -> None:
        if not isinstance(parts, Mapping) or len(parts) < 2:
            raise ApplicationError(
                f"Parts({in_short(parts)}): give at least two parts by name, such as "
                "{'mode': Discrete('story', 'arcade'), 'speed': Continuous(low=0.5, high=2)}; a "
                "single one needs no Parts"
            )
        for name, part in parts.items():
            if not is_text(name) or "=" in name:
                raise ApplicationError(
                    f"Parts({{{in_short(name)}: …}}): a part's name is a text of 1 to 200 "
                    "characters without '='"
                )
            if not isinstance(part, (Discrete, Continuous)):
                raise ApplicationError(
                    f"Parts({{{name!r}: {in_short(part)}}}): expected Discrete(…) or Continuous(…)"
                )
            if isinstance(part, Discrete) and part.features is not None:
                raise ApplicationError(
                    f"Parts({{{name!r}: Discrete(…, features=…)}}): actions with features stand "
                    "alone, not in parts"
                )
        object.__setattr__(self, "parts", dict(parts))

    def __hash__(self) -> int:
        return hash(tuple(self.parts.items()))

    @cached_property
    def shape(self) -> Shape:
        """This space in numbers."""
        segments, at = [], 0
        low: list[float] = []
        high: list[float] = []
        for part in self.parts.values():
            if isinstance(part, Discrete):
                segments.append((at, at + len(part)))
                at += len(part)
            else:
                low += part.low
                high += part.high
        return Shape("parts", max(at, 1), tuple(segments), np.array(low), np.array(high))

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """Names of what a mask covers: `part=label`, in order."""
        return tuple(
            f"{name}={label}"
            for name, part in self.parts.items()
            if isinstance(part, Discrete)
            for label in part.labels
        ) or ("box",)

    def problem_with(self, action: Any, _items: Sequence[Item] | None = None) -> str | None:
        """What is wrong with an action as JSON carries it; None where it is one of these."""
        if not isinstance(action, Mapping) or set(action) != set(self.parts):
            return f"expected an object of {list(self.parts)}"
        for name, part in self.parts.items():
            if (problem := part.problem_with(action[name])) is not None:
                return f"part {name!r}: {problem}"
        return None

    def row_of(self, action: Any, _items: Sequence[Item] | None = None) -> np.ndarray:
        """An action without problems as numbers: positions, then numbers. float64 `[W]`"""
        positions: list[float] = []
        numbers: list[float] = []
        for name, part in self.parts.items():
            (positions if isinstance(part, Discrete) else numbers).extend(part.row_of(action[name]))
        return np.array(positions + numbers, dtype=np.float64)

    def action_of(self, row: np.ndarray, _items: Sequence[Item] | None = None) -> Any:
        """The action of a row, as JSON carries it."""
        action: dict[str, Any] = {}
        position, number = 0, len(self.shape.segments)
        for name, part in self.parts.items():
            if isinstance(part, Discrete):
                action[name] = part.action_of(row[position : position + 1])
                position += 1
            else:
                action[name] = part.action_of(row[number : number + part.length])
                number += part.length
        return action

    def described(self) -> Any:
        """What goes into the contract's fingerprint."""
        return [[name, part.kind, part.described()] for name, part in self.parts.items()]


Actions = Discrete | Continuous | Parts | Ranking
ACTIONS = (Discrete, Continuous, Parts, Ranking)
