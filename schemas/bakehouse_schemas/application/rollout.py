"""Who gets the policy, how that widens step by step, and which outcomes stop it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.numbers import in_short, is_finite, is_text, is_whole

MOST_GUARDRAILS = 5
GRADUATION = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)  # of an apprentice, where nothing else is said


@dataclass(frozen=True)
class Guardrail:
    """An outcome that may not get too frequent (or too rare) under the policy.

    Args:
        outcome: its name; it need not be one that the reward counts.
        most: the largest mean value a decision (of an outcome without value: its frequency).
        least: the smallest.
    """

    outcome: str
    most: float | None = None
    least: float | None = None

    def __post_init__(self) -> None:
        if not is_text(self.outcome):
            raise ApplicationError(
                f"Guardrail({in_short(self.outcome)}): expected the name of an outcome"
            )
        for name, value in (("most", self.most), ("least", self.least)):
            if value is not None and not is_finite(value):
                raise ApplicationError(
                    f"Guardrail({self.outcome!r}, {name}={in_short(value)}): expected a number"
                )
        if self.most is None and self.least is None:
            raise ApplicationError(
                f"Guardrail({self.outcome!r}) has no bound: give most=… or least=…, a mean value "
                "a decision"
            )
        if self.most is not None and self.least is not None and self.least > self.most:
            raise ApplicationError(
                f"Guardrail({self.outcome!r}, least={self.least:g}, most={self.most:g}): nothing "
                "lies between"
            )


def checked_guardrails(given: object) -> tuple[Guardrail, ...]:
    """Guardrails as a page names them. Raises ApplicationError."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ApplicationError(
            f"Gate(guardrails={in_short(given)}): expected a list, such as "
            "[Guardrail('quit', most=0.2)]"
        )
    found = tuple(given)
    for one in found:
        if not isinstance(one, Guardrail):
            raise ApplicationError(f"Gate(guardrails=[…, {in_short(one)}]): expected Guardrail(…)")
    if len(found) > MOST_GUARDRAILS:
        raise ApplicationError(
            f"Gate(guardrails=…) has {len(found)}: at most {MOST_GUARDRAILS}; each takes its part "
            "of the confidence"
        )
    return found


@dataclass(frozen=True)
class Rollout:
    """Who gets the policy.

    Args:
        holdout: share of subjects that stays on the baseline for good.
        canary: shares of the other subjects that the policy answers, one after the other; the
            last is 1. Each step is taken only while nothing speaks against it. None: all at
            once; of an apprentice 1%, 5%, 10%, 25%, 50%, 100%.
        decisions_a_step: matured decisions of the policy before the next step.
        match: share of decisions on which an apprentice must agree with the baseline.
    """

    holdout: float = 0.10
    canary: Sequence[float] | None = None
    decisions_a_step: int = 500
    match: float = 0.9

    def __post_init__(self) -> None:
        if not is_finite(self.holdout) or not 0 <= self.holdout <= 0.9:
            raise ApplicationError(f"Rollout(holdout={in_short(self.holdout)}): from 0 to 0.9")
        if self.canary is not None:
            shares = self.canary
            if (
                isinstance(shares, str)
                or not isinstance(shares, Sequence)
                or not shares
                or not all(is_finite(share) and 0 < share <= 1 for share in shares)
                or list(shares) != sorted(set(shares))
                or shares[-1] != 1
            ):
                raise ApplicationError(
                    f"Rollout(canary={in_short(shares)}): expected growing shares in (0, 1] that "
                    "end with 1.0, such as [0.1, 0.5, 1.0]"
                )
            object.__setattr__(self, "canary", tuple(float(share) for share in shares))
        if not is_whole(self.decisions_a_step, 1, 1 << 40):
            raise ApplicationError(
                f"Rollout(decisions_a_step={in_short(self.decisions_a_step)}): at least 1"
            )
        if not is_finite(self.match) or not 0 < self.match <= 1:
            raise ApplicationError(f"Rollout(match={in_short(self.match)}): must be in (0, 1]")

    def shares(self, mode: str) -> tuple[float, ...]:
        """Shares of the subjects outside the holdout, step by step."""
        if self.canary is not None:
            return tuple(self.canary)
        return GRADUATION if mode == "apprentice" else (1.0,)
