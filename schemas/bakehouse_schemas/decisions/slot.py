"""What answers an application right now: one immutable value, swapped by one assignment.

A request takes the reference once, so action, propensity and version come from one policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.execution.base_policy import BasePolicy
from bakehouse_schemas.policy.bundle import LoadedPolicy


@dataclass(frozen=True)
class Slot:
    """A policy in place.

    Args:
        policy: None is version 0, the baseline mixed with uniform exploration.
        killed: every decision is the baseline's, whatever the policy.
        canary: share of the subjects outside the holdout that the policy answers.
        explore_share: of uniform choice, as a person said; None: as policy and page say.
        fresh: broker times (ms) of outcomes that no policy which has answered knew of.
    """

    policy: LoadedPolicy | None
    exploration: Exploration
    killed: bool = False
    fresh: tuple[int, ...] = ()
    canary: float = 1.0
    explore_share: float | None = None

    @property
    def version(self) -> int:
        return 0 if self.policy is None else self.policy.version

    def distribution(self, observations: np.ndarray, eligible: np.ndarray) -> np.ndarray:
        """The policy's own probabilities, before exploration.

        Args:
            observations: float32 `[B, D]`
            eligible: bool `[B, A]`

        Returns:
            float64 `[B, A]`
        """
        assert self.policy is not None
        return self.policy.policy.distribution(
            observations, eligible, temperature=self._temperature
        )

    def base_policy(
        self, observations: np.ndarray, eligible: np.ndarray, items: np.ndarray | None
    ) -> BasePolicy:
        """The policy's distribution before exploration, of any kind of action.

        Args:
            observations: float32 `[1, D]`
            eligible: bool `[1, A]`
            items: float32 `[A, F]` where items are ranked
        """
        assert self.policy is not None
        return self.policy.policy.base_policy(
            observations,
            eligible,
            None if items is None else items[None],
            temperature=self._temperature,
        )

    @property
    def _temperature(self) -> float | None:
        """Where the exploration is a softmax over scores."""
        exploration = self.exploration
        return exploration.temperature if exploration.kind == "softmax" else None


def version_zero(
    application: Application, *, killed: bool = False, explore_share: float | None = None
) -> Slot:
    """The slot before anything was learned."""
    exploration = application.exploration.after(0)
    return Slot(None, exploration, killed=killed, explore_share=explore_share)
