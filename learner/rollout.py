"""How widely the policy answers: one step after the other, and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Steps:
    """Where a rollout stands.

    Args:
        shares: of the subjects outside the holdout, growing; the last is 1.
        decisions_a_step: matured decisions of the policy before the next step.
    """

    def __init__(self, shares: Sequence[float], decisions_a_step: int) -> None:
        self._shares = tuple(shares)
        self._decisions_a_step = decisions_a_step
        self.step = -1  # the policy answers nobody
        self._since = 0  # matured decisions of the policy when this step began

    @property
    def share(self) -> float:
        """Share of the subjects outside the holdout that the policy answers."""
        return self._shares[self.step] if self.step >= 0 else 0.0

    @property
    def complete(self) -> bool:
        """Whether the policy answers all of them."""
        return self.step == len(self._shares) - 1

    def is_due(self, by_policy: int) -> bool:
        """Whether enough was seen of this step to take the next.

        Args:
            by_policy: matured decisions of policies, ever.
        """
        enough = by_policy - self._since >= self._decisions_a_step
        return 0 <= self.step < len(self._shares) - 1 and enough

    def forward(self, by_policy: int) -> None:
        """Take the next step: the first from nobody."""
        self._to(min(self.step + 1, len(self._shares) - 1), by_policy)

    def back(self, by_policy: int) -> None:
        """Take a step back: from the first to nobody."""
        self._to(max(self.step - 1, -1), by_policy)

    def stop(self, by_policy: int) -> None:
        """Answer nobody."""
        self._to(-1, by_policy)

    def _to(self, step: int, by_policy: int) -> None:
        self.step, self._since = step, by_policy

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        return {"step": self.step, "since": self._since}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the rollout that gave `state` had never stopped."""
        self.step = min(int(state["step"]), len(self._shares) - 1)
        self._since = int(state["since"])
