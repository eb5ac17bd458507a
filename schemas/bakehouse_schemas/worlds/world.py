"""Worlds: simulated players with a known expected reward, for demo, tests and tuning.

A world stands beside its application as `world = MyWorld()`. It says what players send, what
comes of an action and when, and, noise-free, what an action is worth.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bakehouse_schemas.application.user_code_errors import error_text, source_file, source_line
from bakehouse_schemas.errors import ApplicationError, BakehouseError

Context = Mapping[str, Any]
# What the ids of simulated players begin with, so that nobody takes them for people.
SIMULATED = "simulated-"
DUPLICATE_AFTER_S = (0.05, 1.0)
END_AFTER_S = 0.05  # after the last thing that happened, the game says that the episode is over


class Happening(NamedTuple):
    """One outcome that a simulated player will cause."""

    after_s: float  # seconds after the decision was answered
    name: str
    value: float | None = None


class Transition(NamedTuple):
    """One way that an episodic step can go."""

    probability: float
    reward: float  # expected reward of this step under the application's reward
    next_state: Hashable | None  # None: the episode is over


@dataclass(frozen=True)
class Delivery:
    """What the network does to outcomes: the share lost, sent twice, and delayed beyond it."""

    loss: float = 0.0
    duplicates: float = 0.0
    late: float = 0.0  # share delivered `late_by_s` after it occurred
    late_by_s: float = 5.0

    def copies_s(self, after_s: float, rng: np.random.Generator) -> list[float]:
        """When the copies of an outcome arrive that occurs `after_s` after its decision.

        Seconds after the decision: none where it is lost, two where it is sent again.
        """
        if rng.random() < self.loss:
            return []
        if rng.random() < self.late:
            after_s += self.late_by_s
        if rng.random() < self.duplicates:
            return [after_s, after_s + float(rng.uniform(*DUPLICATE_AFTER_S))]
        return [after_s]


class BanditWorld(ABC):
    """Players whose decisions stand alone."""

    delivery = Delivery()

    @abstractmethod
    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        """What a random player sends."""

    def at(self, elapsed_s: float) -> BanditWorld:  # noqa: ARG002 - for those that drift
        """The world after so many seconds of play: itself, unless its players change."""
        return self

    def items(
        self,
        context: Context,  # noqa: ARG002 - for those that rank
        rng: np.random.Generator,  # noqa: ARG002 - the same
    ) -> list[dict[str, Any]]:
        """What is to be ranked for this player; the methods below find it in `context["items"]`.

        Only asked of worlds whose application ranks.
        """
        raise BakehouseError(
            f"{type(self).__name__}.items(): an application that ranks needs a world with items"
        )

    @abstractmethod
    def happenings(
        self, context: Context, action: Any, rng: np.random.Generator
    ) -> list[Happening]:
        """What comes of an action; empty where the player just leaves."""

    @abstractmethod
    def expected_reward(self, context: Context, action: Any) -> float:
        """Noise-free mean reward under the application's reward, window and default."""

    def best_action(self, context: Context) -> Any:  # noqa: ARG002 - for those that can say it
        """The action of the largest expected reward; of labels it need not be said."""
        raise BakehouseError(
            f"{type(self).__name__}.best_action(): only labels can be tried one by one; say it"
        )


class EpisodicWorld(ABC):
    """Players who move through a finite, known decision process (so its best is computable)."""

    delivery = Delivery()
    pause_s: tuple[float, float] = (0.2, 0.8)  # between a step's answer and the next request
    vanishing: float = 0.0  # share of steps after which a player is never heard of again

    def at(self, elapsed_s: float) -> EpisodicWorld:  # noqa: ARG002 - for those that drift
        """The world after so many seconds of play: itself, unless its players change.

        States, start and grid stay what they are.
        """
        return self

    @property
    @abstractmethod
    def states(self) -> Sequence[Hashable]:
        """All states in which an action is asked for."""

    @abstractmethod
    def start(self) -> Mapping[Hashable, float]:
        """Probability of beginning in each state."""

    @abstractmethod
    def context(self, state: Hashable, rng: np.random.Generator) -> dict[str, Any]:
        """What a player in `state` sends."""

    @abstractmethod
    def state_of(self, context: Context) -> Hashable:
        """The state that a context was sent from."""

    @abstractmethod
    def transitions(self, state: Hashable, action: Any) -> Sequence[Transition]:
        """Where an action leads; probabilities add up to 1."""

    def grid(self) -> Sequence[Any]:
        """Actions, close enough together that the best of them is the best; labels need none."""
        raise BakehouseError(
            f"{type(self).__name__}.grid(): only labels can be tried one by one; list others"
        )

    @abstractmethod
    def happenings(
        self, state: Hashable, action: Any, went: Transition, rng: np.random.Generator
    ) -> list[Happening]:
        """The outcomes of a step that went `went`; their expected reward is `went.reward`."""


World = BanditWorld | EpisodicWorld


@contextmanager
def blamed_on(world: World) -> Iterator[None]:
    """What a world's own code raises is a mistake in its page, and told as one, with the line.

    Raises:
        ApplicationError: instead of what the world raised.
    """
    try:
        yield
    except BakehouseError:
        raise
    except Exception as error:
        if where := source_line(error, source_file(type(world))):
            raise ApplicationError(
                f"the world {type(world).__name__} raised {error_text(error)}{where}"
            ) from error
        raise
