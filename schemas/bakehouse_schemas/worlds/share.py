"""How well a policy does in a world: its share of the way from uniform to best.

`share = (policy − uniform) / (best − uniform)`, all three the world's noise-free expectations over
the decisions made, with the probabilities they were drawn with. `best` answers with the same
exploration, floor and masks, so it is what a policy of this exploration could earn at most. The
baseline is taken as the game runs it, without exploration: the strictest comparison.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from bakehouse_schemas.application.actions import Discrete
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.exploration import NONE, Exploration
from bakehouse_schemas.application.shape import Shape
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.events.checks import eligible_mask, offered
from bakehouse_schemas.execution.base_policy import BasePolicy, baseline_policy
from bakehouse_schemas.execution.bounded_normal import LEAST_STD
from bakehouse_schemas.execution.propensity import execute, executed_distribution, one_hot
from bakehouse_schemas.worlds.transition_model import TransitionModel
from bakehouse_schemas.worlds.world import BanditWorld, EpisodicWorld, World, blamed_on

SAMPLES = 8  # draws that stand for a distribution over actions that are no labels


class Logged(NamedTuple):
    """What a share needs of one decision."""

    context: Mapping[str, Any]  # with the items to rank as `items`, where there are
    probabilities: np.ndarray  # of labels, executed; float64 [A]
    eligible: np.ndarray  # bool [A]
    exploration: Exploration
    action: Any = None  # as JSON carries it; needed where it is no label


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
        BakehouseError: there are no decisions to value, or the world raised something.
    """
    made = list(decisions)
    if not made:
        raise BakehouseError("no decisions to value: expected at least one")
    with blamed_on(world):
        if isinstance(world, EpisodicWorld):
            return episodic_values(world, application, made)
        return bandit_values(world, application, made)


def logged_decision(application: Application, row: Mapping[str, Any]) -> Logged:
    """What a share needs of a row of the folded replay table (shapes as JSON text)."""
    actions = application.actions
    context, action = json.loads(row["context"]), json.loads(row["action"])
    items = json.loads(row.get("items") or "null") if actions.kind == "ranking" else None
    given = json.loads(row.get("action_probabilities") or "null")
    if given is not None:
        probabilities = np.array([given.get(label, 0.0) for label in actions.choices])
    elif isinstance(actions, Discrete):
        probabilities = one_hot(actions.labels.index(action), len(actions))
    else:
        probabilities = np.zeros(application.shape.choices)
    logged = json.loads(row.get("exploration") or "null")
    return Logged(
        context=context if items is None else {**context, "items": items},
        probabilities=probabilities,
        eligible=eligible_mask(
            application, eligible=json.loads(row.get("eligible_actions") or "null"), items=items
        ),
        exploration=Exploration(**logged) if logged else NONE,
        action=action,
    )


def bandit_values(
    world: BanditWorld, application: Application, decisions: Sequence[Logged]
) -> Values:
    """Mean expected reward over the contexts of `decisions`: Σ_a p(a)·q(x, a), without noise."""
    if application.shape.kind != "discrete":
        return shaped_bandit_values(world, application, decisions)
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
    return np.array(
        [world.expected_reward(context, label) for label in application.actions.choices]
    )


def episodic_values(
    world: EpisodicWorld, application: Application, decisions: Sequence[Logged]
) -> Values:
    """Expected discounted return from the start, by exact dynamic programming.

    The policy in a state is the mean of what was executed there; where no decision was made, it
    is uniform. `best` and `myopic` explore as the decisions of that state did (elsewhere: as all
    of them did on average).
    """
    if application.shape.kind != "discrete":
        return shaped_episodic_values(world, application, decisions)
    model = TransitionModel(world, application)
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


def shaped_bandit_values(
    world: BanditWorld, application: Application, decisions: Sequence[Logged]
) -> Values:
    """`bandit_values` of actions that are no labels.

    The policy is valued by the actions that it took, which is unbiased; uniform and best by a few
    draws for each context, the same ones at every call.
    """
    draws = np.random.default_rng(0)
    total = np.zeros(4)
    for made in decisions:
        context = made.context

        def worth(action: Any, context: Mapping[str, Any] = context) -> float:
            return world.expected_reward(context, action)

        total += (
            _mean_worth(application, made, worth, _anywhere(application, made), draws),
            worth(
                application.baseline_action(context, offered(context.get("items"), made.eligible))
            ),
            worth(made.action),
            _mean_worth(
                application,
                made,
                worth,
                _around(application, made, world.best_action(context)),
                draws,
            ),
        )
    uniform, baseline, policy, best = (float(value) for value in total / len(decisions))
    return Values(uniform, baseline, policy, best, myopic=best)


def _mean_worth(
    application: Application,
    made: Logged,
    worth: Callable[[Any], float],
    how: tuple[BasePolicy, Exploration],
    draws: np.random.Generator,
) -> float:
    base_policy, exploration = how
    items = made.context.get("items")
    drawn = (
        execute(application.shape, base_policy, made.eligible, exploration, float(u)).row
        for u in draws.random(SAMPLES)
    )
    return float(np.mean([worth(application.actions.action_of(row, items)) for row in drawn]))


def _anywhere(application: Application, made: Logged) -> tuple[BasePolicy, Exploration]:
    """Every eligible choice alike, and every number of the box."""
    shape = application.shape
    probabilities = made.eligible / made.eligible.sum()
    for start, stop in shape.segments:
        probabilities[start:stop] = _uniform(made.eligible[start:stop])
    middle = ((shape.low + shape.high) / 2)[None]
    base_policy = BasePolicy(probabilities[None], middle, np.ones_like(middle))
    return base_policy, Exploration(kind="none", epsilon=1.0)


def _around(application: Application, made: Logged, action: Any) -> tuple[BasePolicy, Exploration]:
    """A wanted action, executed with the exploration of a decision."""
    shape = application.shape
    row = application.actions.row_of(action, made.context.get("items"))
    base_policy = baseline_policy(shape, row[None], made.exploration)
    return base_policy._replace(std=_spread(shape, made.exploration)[None]), made.exploration


def _spread(shape: Shape, exploration: Exploration) -> np.ndarray:
    """What exploration adds to a wanted number; an agent's own randomness could be next to none."""
    return np.asarray((exploration.std or LEAST_STD) * (shape.high - shape.low))


def shaped_episodic_values(
    world: EpisodicWorld, application: Application, decisions: Sequence[Logged]
) -> Values:
    """`episodic_values` of actions that are no labels.

    The policy in a state is what it did there; `best` and `myopic` want an action of the world's
    grid in each state, and get what the exploration of the last decision makes of it.
    """
    grid = list(world.grid())
    last = decisions[-1]
    draws = np.random.default_rng(0)
    executed: list[Any] = []  # SAMPLES of each wanted action, then of uniform
    for wanted in grid:
        base_policy, exploration = _around(application, last, wanted)
        executed += _drawn(application, base_policy, last.eligible, exploration, draws)
    everywhere, uniformly = _anywhere(application, last)
    executed += _drawn(application, everywhere, last.eligible, uniformly, draws)
    model = TransitionModel(world, application, executed)
    states = len(model.states)
    wants = np.kron(np.eye(len(grid)), np.full(SAMPLES, 1 / SAMPLES))  # [G, G·S]
    wants = np.concatenate([wants, np.zeros((len(grid), SAMPLES))], axis=1)
    uniform = np.concatenate([np.zeros(len(grid) * SAMPLES), np.full(SAMPLES, 1 / SAMPLES)])
    made: list[list[Any]] = [[] for _ in range(states)]
    for one in decisions:
        made[model.position[world.state_of(one.context)]].append(one.action)
    rng = np.random.default_rng(0)
    ruled = [[application.baseline_action(world.context(state, rng))] for state in model.states]
    return Values(
        uniform=model.value(np.tile(uniform, (states, 1))),
        baseline=_value_of(world, application, ruled),
        policy=_value_of(world, application, [m or executed[-SAMPLES:] for m in made]),
        best=model.best_wanted(wants),
        myopic=model.best_wanted(wants, myopic=True),
    )


def _drawn(
    application: Application,
    base_policy: BasePolicy,
    eligible: np.ndarray,
    exploration: Exploration,
    draws: np.random.Generator,
) -> list[Any]:
    return [
        application.actions.action_of(
            execute(application.shape, base_policy, eligible, exploration, float(u)).row
        )
        for u in draws.random(SAMPLES)
    ]


def _value_of(
    world: EpisodicWorld, application: Application, taken: Sequence[Sequence[Any]]
) -> float:
    """Return from the start where each state's actions are drawn from those given for it."""
    flat = [action for some in taken for action in some]
    model = TransitionModel(world, application, flat)
    policy = np.zeros((len(taken), len(flat)))
    at = 0
    for state, some in enumerate(taken):
        policy[state, at : at + len(some)] = 1 / len(some)
        at += len(some)
    return model.value(policy)


def _uniform(eligible: np.ndarray) -> np.ndarray:
    return np.asarray(eligible / eligible.sum())


def _baseline(application: Application, made: Logged) -> np.ndarray:
    """The game's rules, pure; uniform where their answer is not eligible, as in serving."""
    at = application.actions.choices.index(application.baseline_action(made.context))
    return one_hot(at, len(made.eligible)) if made.eligible[at] else _uniform(made.eligible)


def _executed(made: Logged, actions: int) -> np.ndarray:
    """What is executed when each action is wanted; zeros for an ineligible one. `[A, A]`"""
    exploration = made.exploration
    return _executed_matrix(
        made.eligible.tobytes(), actions, exploration.epsilon, exploration.floor
    )


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
