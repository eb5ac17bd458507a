"""Compression: an observation of many numbers made small, before anything is learned from it."""

from __future__ import annotations

from dataclasses import dataclass

from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.numbers import in_short, is_whole


@dataclass(frozen=True)
class Compression:
    """An autoencoder, fitted once from the first rows, whose code is what the agent sees.

    It becomes the policy's first layers. Whether it still fits is watched: the learner's status
    says how much of the observations' variance it loses now, and lost when it was fitted.

    Args:
        size: numbers of the code; fewer than the observation has.
        hidden: width of the layer between.
        rows: decisions that it is fitted on; nothing is learned before so many were read.
        steps: minibatches of 256 that it is fitted with.
    """

    size: int = 16
    hidden: int = 64
    rows: int = 5_000
    steps: int = 3_000

    def __post_init__(self) -> None:
        for name, least, most in (
            ("size", 1, 4_096),
            ("hidden", 1, 4_096),
            ("rows", 100, 10_000_000),
            ("steps", 1, 1_000_000),
        ):
            value = getattr(self, name)
            if not is_whole(value, least, most):
                raise ApplicationError(
                    f"Compression({name}={in_short(value)}): from {least} to {most}"
                )

    def check(self, *, dimensions: int, buffer: int, kind: str, features: int) -> None:
        """Raise ApplicationError where an application cannot be compressed so.

        Args:
            dimensions: of an observation.
            buffer: decisions kept resident.
            kind, features: of its actions; see `bakehouse_schemas.application.shape.Shape`.
        """
        if self.size >= dimensions:
            raise ApplicationError(
                f"Compression(size={self.size}): the observation has {dimensions} numbers; there "
                "is nothing to make smaller"
            )
        if self.rows > buffer:
            raise ApplicationError(
                f"Compression(rows={self.rows}): the buffer keeps {buffer} decisions; so many "
                "never come together"
            )
        if kind == "ranking" or features:
            raise ApplicationError(
                "Compression(…): a network that reads items or features of actions beside the "
                "observation cannot begin with a code of the observation alone; leave it out"
            )
