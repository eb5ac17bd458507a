"""How well a policy does in a world: its share of the way from uniform to best.

`share = (policy − uniform) / (best − uniform)`, all three the world's noise-free expectations over
the decisions made, with the probabilities they were drawn with. `best` answers with the same
exploration, floor and masks, so it is what a policy of this exploration could earn at most. The
baseline is taken as the game runs it, without exploration: the strictest comparison.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from schemas.application import Application, Episodic
from schemas.errors import BakehouseError
from schemas.propensity import executed_distribution, one_hot
from schemas.world import BanditWorld, EpisodicWorld, World


class Logged(NamedTuple):
    """What a share needs of one decision."""

    context: Mapping[str, Any]
    probabilities: np.ndarray  # executed; float64 [A]
    eligible: np.ndarray  # bool [A]
    epsilon: float
    floor: float


class Values(NamedTuple):
    """Expected reward of a decision (bandit), or return of an episode (episodic).

    `myopic` is the best policy that looks at the next reward alone; of a bandit, the best.
    """

    uniform: float
    baseline: float
    policy: float
    best: float
    myopic: float


def share(values: Values, *, of: str = "policy") -> float | None:
    """Share of the way from uniform to best; None where best is no better than uniform.

    Args:
        of: whose share: a field of `values`.
    """
    room = values.best - values.uniform
    if room <= 1e-9:
        return None
    return float((getattr(values, of) - values.uniform) / room)


def world_values(world: World, application: Application, decisions: Iterable[Logged]) -> Values:
    """`bandit_values` or `episodic_values`, whichever the world asks for.

    Raises:
        BakehouseError: there are no decisions to value.
    """
    made = list(decisions)
    if not made:
        raise BakehouseError("no decisions to value: expected at least one")
    if isinstance(world, EpisodicWorld):
        return episodic_values(world, application, made)
    return bandit_values(world, application, made)


def logged_decision(application: Application, row: Mapping[str, Any]) -> Logged:
    """What a share needs of a row of the folded replay table (shapes as JSON text)."""
    labels = application.actions.labels
    if row.get("action_probabilities"):
        given = json.loads(row["action_probabilities"])
        probabilities = np.array([given.get(label, 0.0) for label in labels], dtype=np.float64)
    else:
        probabilities = one_hot(labels.index(json.loads(row["action"])), len(labels))
    exploration = json.loads(row.get("exploration") or "null") or {}
    return Logged(
        context=json.loads(row["context"]),
        probabilities=probabilities,
        eligible=eligible_mask(application, json.loads(row.get("eligible_actions") or "null")),
        epsilon=float(exploration.get("epsilon", 0.0)),
        floor=float(exploration.get("floor", 0.0)),
    )


def eligible_mask(application: Application, labels: Sequence[str] | None) -> np.ndarray:
    """Labels as a mask; None means all. bool `[A]`"""
    if labels is None:
        return np.ones(len(application.actions), dtype=bool)
    return np.array([label in labels for label in application.actions.labels], dtype=bool)


def bandit_values(
    world: BanditWorld, application: Application, decisions: Sequence[Logged]
) -> Values:
    """Mean expected reward over the contexts of `decisions`: Σ_a p(a)·q(x, a), without noise."""
    total = np.zeros(4)
    for made in decisions:
        q = expected_rewards(world, application, made.context)  # [A]
        executed = _executed(made, len(q))  # [A, A]
        total += (
            _uniform(made.eligible) @ q,
            _baseline(application, made) @ q,
            made.probabilities @ q,
            float(np.max(executed @ q, where=made.eligible, initial=-np.inf)),
        )
    uniform, baseline, policy, best = (float(value) for value in total / len(decisions))
    return Values(uniform, baseline, policy, best, myopic=best)


def expected_rewards(
    world: BanditWorld, application: Application, context: Mapping[str, Any]
) -> np.ndarray:
    """The world's expected reward of every action. float64 `[A]`"""
    return np.array([world.expected_reward(context, label) for label in application.actions.labels])


def episodic_values(
    world: EpisodicWorld, application: Application, decisions: Sequence[Logged]
) -> Values:
    """Expected discounted return from the start, by exact dynamic programming.

    The policy in a state is the mean of what was executed there; where no decision was made, it
    is uniform. `best` and `myopic` explore as the decisions of that state did (elsewhere: as all
    of them did on average).
    """
    model = _Model(world, application)
    states, actions = model.reward.shape
    policy = np.zeros((states, actions))
    baseline = np.zeros((states, actions))
    executed = np.zeros((states, actions, actions))
    visits = np.zeros(states)
    possible = np.zeros((states, actions), dtype=bool)
    for made in decisions:
        at = model.position[world.state_of(made.context)]
        visits[at] += 1
        policy[at] += made.probabilities
        baseline[at] += _baseline(application, made)
        executed[at] += _executed(made, actions)
        possible[at] |= made.eligible
    seen = visits > 0
    everywhere = executed.sum(axis=0) / len(decisions)
    policy[seen] /= visits[seen, None]
    baseline[seen] /= visits[seen, None]
    executed[seen] /= visits[seen, None, None]
    policy[~seen] = 1 / actions
    executed[~seen] = everywhere
    possible[~seen] = True
    rng = np.random.default_rng(0)
    for at in np.flatnonzero(~seen):
        context = world.context(model.states[at], rng)
        baseline[at] = model.one_hot(application.baseline_action(context))
    uniform = possible / possible.sum(axis=1, keepdims=True)
    nearest = np.where(possible, model.reward, -np.inf)
    return Values(
        uniform=model.value(uniform),
        baseline=model.value(baseline),
        policy=model.value(policy),
        best=model.best(executed, possible),
        myopic=model.best(executed, nearest >= nearest.max(axis=1, keepdims=True) - 1e-12),
    )


class _Model:
    """A world's transitions as arrays, discounted by the application's γ and by vanishing."""

    def __init__(self, world: EpisodicWorld, application: Application) -> None:
        problem = application.problem
        if not isinstance(problem, Episodic):
            raise BakehouseError(
                f"the world of {application.name!r} is episodic, and its problem is a "
                f"{problem.kind}: expected Episodic(…)"
            )
        self.labels = application.actions.labels
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


def _uniform(eligible: np.ndarray) -> np.ndarray:
    return np.asarray(eligible / eligible.sum())


def _baseline(application: Application, made: Logged) -> np.ndarray:
    """The game's rules, pure; uniform where their answer is not eligible, as in serving."""
    at = application.actions.labels.index(application.baseline_action(made.context))
    return one_hot(at, len(made.eligible)) if made.eligible[at] else _uniform(made.eligible)


def _executed(made: Logged, actions: int) -> np.ndarray:
    """What is executed when each action is wanted; zeros for an ineligible one. `[A, A]`"""
    return _executed_matrix(made.eligible.tobytes(), actions, made.epsilon, made.floor)


@lru_cache(maxsize=4096)
def _executed_matrix(mask: bytes, actions: int, epsilon: float, floor: float) -> np.ndarray:
    eligible = np.frombuffer(mask, dtype=bool)
    rows = [
        executed_distribution(one_hot(a, actions), eligible, epsilon=epsilon, floor=floor)
        if eligible[a]
        else np.zeros(actions)
        for a in range(actions)
    ]
    return np.array(rows)
