"""Exploration: how often, and how, something else than the policy's own answer is executed.

A data scientist names a rule; at any moment it comes down to an `Exploration`, which is logged
with each decision. `schemas/bakehouse_schemas/execution/propensity.py` alone says what an
`Exploration` does to a policy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.numbers import in_short, is_finite, is_whole

Schedule = Literal["linear", "exponential", "cosine"]
MOST_FLOOR = 0.01  # of each choice, where nobody says another
MOST_FLOORED = 0.1  # of all choices together, where the rule names no share of its own
SCHEDULES: tuple[Schedule, ...] = ("linear", "exponential", "cosine")


class Exploration(BaseModel):
    """What it takes, with `draw`, to recompute a decision from its policy.

    `epsilon` is the share of uniform choice and `floor` the least share of each choice (of a
    number in a box: of its uniform density). `std` is the spread of a number around the policy's
    own, as a share of its range; `temperature` that of a softmax over scores.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["epsilon_greedy", "softmax", "thompson", "gaussian", "own", "none"]
    epsilon: Annotated[float, Field(ge=0, le=1)] = 0.0
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    std: Annotated[float, Field(gt=0, le=10)] | None = None
    temperature: Annotated[float, Field(gt=0)] | None = None

    def logged(self) -> dict[str, Any]:
        """As an event carries it; shared, so not to be changed."""
        return self._logged

    @cached_property
    def _logged(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True) | (self.__pydantic_extra__ or {})


class LoggedExploration(Exploration):
    """One that came in an event or a bundle: fields that a later release added are kept."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _take(cls, given: Any) -> Any:
        """One of ours, as whoever makes an event or a bundle has it."""
        return given.model_dump() if type(given) is Exploration else given


NONE = Exploration(kind="none")


@lru_cache(maxsize=1_000)
def with_share(exploration: Exploration, share: float) -> Exploration:
    """The same rule with another share of uniform choice, in [0, 1]; its floor stays."""
    # not model_copy: that takes what is cached along
    return type(exploration)(**exploration.model_dump() | {"epsilon": share})


def _check(what: str, value: Any, allowed: bool, expected: str) -> None:
    if not allowed:
        raise ApplicationError(f"{what}={in_short(value)}): {expected}")


def _above_zero(value: Any) -> bool:
    return bool(is_finite(value) and value > 0)


def _check_share(what: str, value: Any) -> None:
    _check(
        what,
        value,
        is_finite(value) and 0 < value <= 1,
        "must be in (0, 1]; without exploration nothing can be learned about the actions not taken",
    )


class DefaultFloor(float):
    """A floor that nobody wrote: an application lowers it to what its choices leave room for."""


@dataclass(frozen=True, kw_only=True)
class _Floored:
    """What all rules share.

    Args:
        floor: least share of each eligible choice. As written; where it is not, 0.01, or less in an
            application of so many choices that these would be more than the rule's own share.
    """

    floor: float = DefaultFloor(MOST_FLOOR)

    @property
    def least_share(self) -> float:
        """Share of uniform choice that a default floor may not exceed."""
        return MOST_FLOORED

    def among(self, choices: int) -> Self:
        """The rule in an application, which knows how many choices there are to keep open.

        Args:
            choices: most that one draw is from; see `bakehouse_schemas.execution.propensity`.
        """
        if not isinstance(self.floor, DefaultFloor):
            return self
        floor = min(MOST_FLOOR, self.least_share / max(choices, 1))
        while floor * choices > self.least_share:  # by rounding
            floor = math.nextafter(floor, 0.0)
        return replace(self, floor=DefaultFloor(floor))

    def __post_init__(self) -> None:
        _check(
            f"{type(self).__name__}(floor",
            self.floor,
            is_finite(self.floor) and 0 < self.floor <= 0.5,
            "must be in (0, 0.5]",
        )


@dataclass(frozen=True, kw_only=True)
class _Scheduled(_Floored):
    """A rule with a way from `start` to its final value.

    Args:
        decay: decisions read until the final value is reached.
        schedule: how the value goes there.
    """

    decay: int = 5_000
    schedule: Schedule = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        _check(f"{name}(decay", self.decay, is_whole(self.decay, 1, 1 << 62), "at least 1 decision")
        _check(f"{name}(schedule", self.schedule, self.schedule in SCHEDULES, f"one of {SCHEDULES}")

    def _between(self, start: float | None, final: float, decisions: int) -> float:
        if start is None:
            return final
        done = min(decisions / self.decay, 1.0)
        if self.schedule == "exponential":
            return float(start * (final / start) ** done)
        if self.schedule == "cosine":
            done = (1.0 - math.cos(math.pi * done)) / 2.0
        return start + (final - start) * done


@dataclass(frozen=True)
class EpsilonGreedy(_Scheduled):
    """`(1 − ε)·policy + ε·uniform` over the eligible actions.

    Args:
        epsilon: final share of uniform exploration.
        start: share at version 0; falls to `epsilon` over `decay` decisions read.
        floor: no eligible action has a propensity below this; where it is not written, 0.01 or
            the least ε of the schedule divided by the number of actions, whichever is less.
    """

    epsilon: float = 0.1
    start: float | None = None
    kinds: ClassVar = ("discrete", "parts", "ranking")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("EpsilonGreedy(epsilon", self.epsilon)
        if self.start is not None:
            _check_share("EpsilonGreedy(start", self.start)

    def epsilon_after(self, decisions: int) -> float:
        """ε once this many decisions have been read by the learner."""
        return self._between(self.start, self.epsilon, decisions)

    def after(self, decisions: int) -> Exploration:
        """What is executed once this many decisions have been read."""
        return Exploration(
            kind="epsilon_greedy", epsilon=self.epsilon_after(decisions), floor=self.floor
        )

    @property
    def least_share(self) -> float:
        """The least ε of the schedule."""
        return self.epsilon if self.start is None else min(self.start, self.epsilon)


@dataclass(frozen=True)
class Softmax(_Scheduled):
    """Actions in proportion to `exp(score / temperature)`; near ties are tried more often.

    Args:
        temperature: in the unit of the scores, which for all agents of rewards is the reward's.
        start: temperature at first; falls to `temperature` over `decay` decisions read.
        uniform: share of uniform choice at version 0, whose policy has no scores.
    """

    temperature: float = 0.1
    start: float | None = None
    uniform: float = 0.5
    kinds: ClassVar = ("discrete", "ranking")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("temperature", self.temperature), ("start", self.start)):
            _check(
                f"Softmax({name}",
                value,
                (name == "start" and value is None) or _above_zero(value),
                "must be above 0, in the unit of the reward",
            )
        _check_share("Softmax(uniform", self.uniform)

    @property
    def least_share(self) -> float:
        """As little as version 0 has, if that is less than others keep open."""
        return min(self.uniform, MOST_FLOORED)

    def after(self, decisions: int) -> Exploration:
        """What is executed once this many decisions have been read."""
        return Exploration(
            kind="softmax",
            epsilon=self.uniform if decisions == 0 else 0.0,
            floor=self.floor,
            temperature=self._between(self.start, self.temperature, decisions),
        )


@dataclass(frozen=True)
class Thompson(_Floored):
    """Each action with the probability that it is the best, as the agent believes.

    Args:
        uniform: share of uniform choice at version 0, whose policy believes nothing.
    """

    uniform: float = 0.5
    kinds: ClassVar = ("discrete",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("Thompson(uniform", self.uniform)

    @property
    def least_share(self) -> float:
        """As little as version 0 has, if that is less than others keep open."""
        return min(self.uniform, MOST_FLOORED)

    def after(self, decisions: int) -> Exploration:
        """What is executed once this many decisions have been read."""
        return Exploration(
            kind="thompson", epsilon=self.uniform if decisions == 0 else 0.0, floor=self.floor
        )


@dataclass(frozen=True)
class Gaussian(_Scheduled):
    """Numbers around the policy's own, normally distributed and kept in the box.

    Args:
        std: standard deviation as a share of each number's range.
        start: that of version 0; falls to `std` over `decay` decisions read.
        floor: share of decisions whose number is uniform over the box, so that no density is 0.
    """

    std: float = 0.1
    start: float | None = 0.3
    kinds: ClassVar = ("continuous", "parts")

    def __post_init__(self) -> None:
        super().__post_init__()
        given: tuple[tuple[str, Any], ...] = (("std", self.std), ("start", self.start))
        for name, value in given:
            _check(
                f"Gaussian({name}",
                value,
                (name == "start" and value is None) or (_above_zero(value) and value <= 2),
                "must be in (0, 2], a share of the range",
            )

    def after(self, decisions: int) -> Exploration:
        """What is executed once this many decisions have been read."""
        return Exploration(
            kind="gaussian",
            floor=self.floor,
            std=self._between(self.start, self.std, decisions),
        )


@dataclass(frozen=True)
class AgentsOwn(_Floored):
    """The agent's own randomness, with a floor: for agents that learn how much to explore.

    Args:
        uniform: share of uniform choice at version 0, whose policy is the game's rules.
        floor: least share of each eligible choice; of a number, of its uniform density.
    """

    uniform: float = 0.5
    kinds: ClassVar = ("discrete", "continuous", "parts", "ranking")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("AgentsOwn(uniform", self.uniform)

    @property
    def least_share(self) -> float:
        """As little as version 0 has, if that is less than others keep open."""
        return min(self.uniform, MOST_FLOORED)

    def after(self, decisions: int) -> Exploration:
        """What is executed once this many decisions have been read."""
        return Exploration(
            kind="own", epsilon=self.uniform if decisions == 0 else 0.0, floor=self.floor
        )


Explores = EpsilonGreedy | Softmax | Thompson | Gaussian | AgentsOwn
EXPLORES = (EpsilonGreedy, Softmax, Thompson, Gaussian, AgentsOwn)


def default_exploration(kind: str, *, own: bool) -> Explores:
    """What an application gets that names no exploration.

    Args:
        kind: of its actions.
        own: its agent has a randomness of its own.
    """
    if own:
        return AgentsOwn()
    return Gaussian() if kind in ("continuous", "parts") else EpsilonGreedy()
