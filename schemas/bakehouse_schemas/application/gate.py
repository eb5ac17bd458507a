"""What a candidate must show before players get it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bakehouse_schemas.application.rollout import Guardrail, checked_guardrails
from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.numbers import in_short, is_finite


@dataclass(frozen=True)
class Gate:
    """What a candidate must show before players get it.

    Args:
        confidence: of the always-valid sequence, such as 0.95.
        margin: how much worse, in reward standard deviations, still leaves version 0.
        action_shift: the share of recent contexts on which a candidate may differ from the
            policy before it.
        guardrails: outcomes, at most five, that stop a rollout: back to the baseline, and frozen
            until someone looks.
    """

    confidence: float = 0.95
    margin: float = 0.1
    action_shift: float = 1.0
    guardrails: Sequence[Guardrail] = ()

    def __post_init__(self) -> None:
        for name, expected in (
            ("confidence", "from 0.5 to below 1"),
            ("margin", "from 0 to 10 (reward sds)"),
            ("action_shift", "in (0, 1]"),
        ):
            if not is_finite(value := getattr(self, name)):
                raise ApplicationError(f"Gate({name}={in_short(value)}): {expected}")
        if not 0.5 <= self.confidence < 1:
            raise ApplicationError(f"Gate(confidence={self.confidence}): from 0.5 to below 1")
        if not 0 <= self.margin <= 10:
            raise ApplicationError(f"Gate(margin={self.margin}): from 0 to 10 (reward sds)")
        if not 0 < self.action_shift <= 1:
            raise ApplicationError(f"Gate(action_shift={self.action_shift}): in (0, 1]")
        object.__setattr__(self, "guardrails", checked_guardrails(self.guardrails))
