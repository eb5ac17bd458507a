"""When and how much the learner trains."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.numbers import in_short, is_whole


@dataclass(frozen=True)
class Training:
    """When and how much the learner trains.

    Args:
        every: cadence, the least time between two trainings.
        buffer: decisions kept resident.
        batch: rows of a minibatch.
        steps: minibatches of one training.
        seed: of every random number that the learner draws.
    """

    every: timedelta = timedelta(seconds=0.5)
    buffer: int = 200_000
    batch: int = 256
    steps: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.every, timedelta) or self.every < timedelta(0):
            raise ApplicationError(
                f"Training(every={in_short(self.every)}): give a duration, such as seconds(0.5)"
            )
        for name, least, most in (
            ("buffer", 100, 100_000_000),
            ("batch", 1, 65_536),
            ("steps", 1, 100_000),
            ("seed", 0, (1 << 32) - 1),
        ):
            value = getattr(self, name)
            if not is_whole(value, least, most):
                raise ApplicationError(
                    f"Training({name}={in_short(value)}): from {least} to {most}"
                )
