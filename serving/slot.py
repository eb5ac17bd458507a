"""What answers an application right now: one immutable value, swapped by one assignment.

A request takes the reference once, so action, propensity and version come from one policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.application import Application
from schemas.bundle import LoadedPolicy
from schemas.events import Exploration

NONE = Exploration(kind="none")


@dataclass(frozen=True)
class Slot:
    """A policy in place.

    Args:
        policy: None is version 0, the baseline mixed with uniform exploration.
        killed: every decision is the baseline's, whatever the policy.
        fresh: broker times (ms) of outcomes that no policy which has answered knew of.
    """

    policy: LoadedPolicy | None
    exploration: Exploration
    killed: bool = False
    fresh: tuple[int, ...] = ()

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
        return self.policy.policy.distribution(observations, eligible)


def version_zero(application: Application, *, killed: bool = False) -> Slot:
    """The slot before anything was learned."""
    rule = application.exploration
    epsilon = rule.epsilon if rule.start is None else rule.start
    exploration = Exploration(kind="epsilon_greedy", epsilon=epsilon, floor=rule.floor)
    return Slot(policy=None, exploration=exploration, killed=killed)
