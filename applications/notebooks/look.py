"""What every notebook shows: where a world leaves room, and how a page's agent fills it."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from bakehouse_learner.agents import build_agent
from bakehouse_learner.offline.simulation.simulation import Result, simulate
from bakehouse_schemas.application.actions import Actions, Continuous, Discrete, Parts
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.exploration import NONE
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.events.checks import eligible_mask
from bakehouse_schemas.execution.base_policy import most_likely
from bakehouse_schemas.execution.propensity import one_hot
from bakehouse_schemas.worlds.share import Logged, Values, share, world_values
from bakehouse_schemas.worlds.world import Context, EpisodicWorld, World


def players(
    world: World, count: int = 2_000, *, seed: int = 0, ranks: bool = False
) -> list[dict[str, Any]]:
    """Contexts as the world's players send them; of an episodic world, one from each state.

    Args:
        ranks: the application ranks items; they are in each context, as `items`.
    """
    rng = np.random.default_rng(seed)
    if isinstance(world, EpisodicWorld):
        return [world.context(state, rng) for state in world.states]
    contexts = [world.context(rng) for _ in range(count)]
    return [c | {"items": world.items(c, rng)} for c in contexts] if ranks else contexts


def constants(actions: Actions) -> list[Any]:
    """Actions that are tried on everybody; of a ranking none, for items change."""
    match actions:
        case Discrete():
            return list(actions.labels)
        case Continuous():
            steps = 9 if actions.length == 1 else 5
            ends = zip(actions.low, actions.high, strict=True)
            axes = [np.linspace(*both, steps).tolist() for both in ends]
            return [list(point) for point in product(*axes)]
        case Parts():
            each = [constants(part) for part in actions.parts.values()]
            return [dict(zip(actions.parts, picked, strict=True)) for picked in product(*each)]
        case _:
            return []


def standing(application: Application, world: World) -> dict[str, float]:
    """Noise-free mean rewards (of episodes: returns), without any exploration."""
    actions = application.actions
    ranks = isinstance(actions, Ranking)
    contexts = players(world, 2_000 if isinstance(actions, Discrete) else 300, ranks=ranks)

    def valued(action: Any) -> Values:
        logged = []
        for context in contexts:
            eligible = eligible_mask(application, eligible=None, items=context.get("items"))
            shown = np.zeros(len(eligible))
            if isinstance(actions, Discrete):
                shown = one_hot(actions.labels.index(action), len(eligible))
            does = application.baseline_action(context, context["items"]) if ranks else action
            logged.append(Logged(context, shown, eligible, NONE, does))
        return world_values(world, application, logged)

    found = {str(action): valued(action) for action in constants(actions)}
    if not found:
        values = valued(None)
        always = {}
    else:
        best = max(found, key=lambda name: found[name].policy)
        values = found[best]
        always = {f"always {best}, the best constant": values.policy}
    return {
        "uniform": values.uniform,
        "the game's rules": values.baseline,
        **always,
        "best": values.best,
    }


def print_standing(application: Application, world: World) -> None:
    """The same, and each as its share of the way from uniform to best."""
    found = standing(application, world)
    room = found["best"] - found["uniform"]
    for name, value in found.items():
        print(f"{name:40s} {value:8.3f}   share {(value - found['uniform']) / room:6.2f}")


def learn(application: Application, world: World, *, decisions: int) -> Result:
    """Production's learner and gate in this world, in virtual time, from the first decision."""
    return simulate(application, world, build_agent, decisions=decisions, rate_per_s=200.0, seed=0)


def print_result(result: Result) -> None:
    """How it went, in three lines."""
    print(f"share of the last decisions        {result.share or 0.0:.2f}")
    print(f"left the game's rules after        {result.left_version_0} decisions")
    print(f"a share of 0.8 after               {result.decisions_until(0.8)} decisions")


def plot_curve(axes: Axes, result: Result) -> None:
    """Share over decisions, and the moments at which the gate changed its mind."""
    known = [(point.decisions, point.share) for point in result.points if point.share is not None]
    axes.plot(*zip(*known, strict=True), label="answers")
    if result.values is not None and (rules := share(result.values, of="baseline")) is not None:
        axes.axhline(rules, color="grey", linestyle=":", label="the game's rules")
    if result.left_version_0 is not None:
        axes.axvline(result.left_version_0, color="green", linewidth=0.8, label="first policy")
    axes.set(xlabel="decisions", ylabel="share of uniform to best", ylim=(-0.1, 1.02))
    axes.legend(loc="lower right", fontsize=8)


def answers(result: Result, application: Application, contexts: list[Any]) -> list[Any]:
    """What the last policy answers, without exploration: its most likely action in each context."""
    assert result.learning is not None
    policy, actions = result.learning.deployment.current.policy, application.actions
    if policy is None:
        return [application.baseline_action(c, c.get("items")) for c in contexts]
    found = []
    for context in contexts:
        items = described = None
        if isinstance(actions, Ranking):
            items = context["items"]
            described = actions.encode_items(items)[None]
        observation = application.encoder.encode(context)[None]
        eligible = eligible_mask(application, eligible=None, items=items)
        own = policy.base_policy(observation, eligible[None], described)
        found.append(actions.action_of(most_likely(application.shape, own, eligible), items))
    return found


def best_answer(application: Application, world: Any, context: Context) -> str:
    """The action with the highest expected reward, which only a world can know."""
    labels = application.actions.choices
    return max(labels, key=lambda label: world.expected_reward(context, label))
