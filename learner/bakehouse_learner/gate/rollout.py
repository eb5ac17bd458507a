"""How widely the policy answers: one step after the other, and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class RolloutSteps:
    """Where a rollout stands.

    Args:
        shares: of the subjects outside the holdout, growing; the last is 1.
        decisions_a_step: matured decisions of the policy, made in a step, before the next.
    """

    def __init__(self, shares: Sequence[float], decisions_a_step: int) -> None:
        self._shares = tuple(shares)
        self._decisions_a_step = decisions_a_step
        self.step = -1  # the policy answers nobody
        self._first_version = 0  # of the policies that were given to so many
        self._seen = 0  # matured decisions of those

    @property
    def share(self) -> float:
        """Share of the subjects outside the holdout that the policy answers."""
        return self._shares[self.step] if self.step >= 0 else 0.0

    @property
    def complete(self) -> bool:
        """Whether the policy answers all of them."""
        return self.step == len(self._shares) - 1

    def is_due(self) -> bool:
        """Whether enough was seen of this step to take the next."""
        return 0 <= self.step < len(self._shares) - 1 and self._seen >= self._decisions_a_step

    def see(self, versions: np.ndarray) -> None:
        """Take matured decisions of policies: those decided before this step do not count.

        Args:
            versions: of the policies that decided, int `[n]`
        """
        self._seen += int(np.count_nonzero(versions >= self._first_version))

    def forward(self, version: int) -> None:
        """Take the next step, the first from nobody, with the policy of that version."""
        self._to(min(self.step + 1, len(self._shares) - 1), version)

    def back(self, version: int) -> None:
        """Take a step back, from the first to nobody; policies from that version on count."""
        self._to(max(self.step - 1, -1), version)

    def stop(self) -> None:
        """Answer nobody."""
        self._to(-1, 0)

    def go_on_at(self, share: float, version: int) -> None:
        """The widest step of at most that share; the first, where all are wider.

        The application may name other shares than it did when a policy was given to so many.
        """
        within = sum(one <= share + 1e-9 for one in self._shares)
        self._to(max(within - 1, 0) if share > 0 else -1, version)

    def _to(self, step: int, version: int) -> None:
        self.step, self._first_version, self._seen = step, version, 0

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        return {"share": self.share, "first_version": self._first_version, "seen": self._seen}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the rollout that gave `state` had never stopped."""
        self.go_on_at(float(state["share"]), int(state["first_version"]))
        if self.share == state["share"]:
            self._seen = int(state["seen"])
