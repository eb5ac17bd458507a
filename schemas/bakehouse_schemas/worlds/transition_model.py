"""A world's states and transitions as arrays, and the best policy in them, by policy iteration."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from bakehouse_schemas.application.application import Application, Episodic
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.execution.propensity import one_hot
from bakehouse_schemas.worlds.world import EpisodicWorld


class TransitionModel:
    """A world's transitions as arrays, discounted by the application's γ and by vanishing."""

    def __init__(
        self,
        world: EpisodicWorld,
        application: Application,
        grid: Sequence[Any] | None = None,
    ) -> None:
        problem = application.problem
        if not isinstance(problem, Episodic):
            raise BakehouseError(
                f"the world of {application.name!r} is episodic, and its problem is a "
                f"{problem.kind}: expected Episodic(…)"
            )
        self.labels: Sequence[Any] = application.actions.choices if grid is None else grid
        self.states: list[Hashable] = list(world.states)
        self.position = {state: at for at, state in enumerate(self.states)}
        n, actions = len(self.states), len(self.labels)
        self.reward = np.zeros((n, actions))  # [S, A]
        self.onward = np.zeros((n, actions, n))  # [S, A, S], γ·P·(1 − vanishing)
        for at, state in enumerate(self.states):
            for action, label in enumerate(self.labels):
                for way in world.transitions(state, label):
                    self.reward[at, action] += way.probability * way.reward
                    if way.next_state is not None:
                        to = self.position[way.next_state]
                        self.onward[at, action, to] += way.probability
        self.onward *= problem.discount * (1.0 - world.vanishing)
        self.start = np.zeros(n)  # [S]
        for state, probability in world.start().items():
            self.start[self.position[state]] = probability

    def one_hot(self, label: str) -> np.ndarray:
        return one_hot(self.labels.index(label), len(self.labels))

    def _state_values(self, policy: np.ndarray) -> np.ndarray:
        """V of a policy `[S, A]`, solving V = r_π + P_π V. `[S]`"""
        onward = np.einsum("sa,sat->st", policy, self.onward)
        rewards = (policy * self.reward).sum(axis=1)
        return np.asarray(np.linalg.solve(np.eye(len(rewards)) - onward, rewards))

    def value(self, policy: np.ndarray) -> float:
        """Expected return from the start."""
        return float(self.start @ self._state_values(policy))

    def best(self, executed: np.ndarray, allowed: np.ndarray) -> float:
        """Return of the best policy that wants one allowed action in each state.

        Args:
            executed: what is executed in state s when a is wanted. `[S, A, A]`
            allowed: which actions may be wanted. bool `[S, A]`

        Policy iteration (Howard 1960): wants change only where that is strictly better, so it
        ends at a fixed point, which is optimal.
        """
        states = np.arange(len(self.states))
        wanted = allowed.argmax(axis=1)
        while True:
            values = self._state_values(executed[states, wanted])
            q = self.reward + self.onward @ values  # [S, A]
            worth = np.where(allowed, np.einsum("swa,sa->sw", executed, q), -np.inf)
            better = worth.max(axis=1) > worth[states, wanted] + 1e-12
            if not better.any():
                return float(self.start @ values)
            wanted = np.where(better, worth.argmax(axis=1), wanted)

    def best_wanted(self, wants: np.ndarray, *, myopic: bool = False) -> float:
        """`best` where any of G wants, each a distribution over the actions, can be had. `[G, A]`

        `myopic`: only those with the largest reward of the step itself may be wanted.
        """
        states = len(self.states)
        executed = np.zeros((states, wants.shape[1], wants.shape[1]))
        executed[:, : len(wants)] = wants
        allowed = np.zeros((states, wants.shape[1]), dtype=bool)
        nearest = self.reward @ wants.T  # [S, G]
        allowed[:, : len(wants)] = (
            nearest >= nearest.max(axis=1, keepdims=True) - 1e-12 if myopic else True
        )
        return self.best(executed, allowed)
