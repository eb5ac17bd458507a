"""What every notebook shows: where a world leaves room, and how a page's agent fills it."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from learner.agents import build_agent
from learner.simulation import Result, simulate
from schemas.application import Application
from schemas.exploration import NONE
from schemas.propensity import one_hot
from schemas.share import Logged, Values, share, world_values
from schemas.world import Context, EpisodicWorld, World


def players(world: World, count: int = 2_000, *, seed: int = 0) -> list[dict[str, Any]]:
    """Contexts as the world's players send them; of an episodic world, one from each state."""
    rng = np.random.default_rng(seed)
    if isinstance(world, EpisodicWorld):
        return [world.context(state, rng) for state in world.states]
    return [world.context(rng) for _ in range(count)]


def standing(application: Application, world: World) -> dict[str, float]:
    """Noise-free mean rewards (of episodes: returns), without any exploration."""
    contexts = players(world)

    def valued(label: str) -> Values:
        shown = one_hot(application.actions.choices.index(label), len(labels))
        everything = np.ones(len(labels), dtype=bool)
        return world_values(
            world, application, [Logged(c, shown, everything, NONE, label) for c in contexts]
        )

    labels = application.actions.choices
    constants = {label: valued(label) for label in labels}
    constant = max(labels, key=lambda label: constants[label].policy)
    values = constants[constant]
    return {
        "uniform": values.uniform,
        "the game's rules": values.baseline,
        f"always {constant!r}, the best constant": values.policy,
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


def answers(result: Result, application: Application, contexts: list[Any]) -> list[str]:
    """What the last policy answers, without exploration; one label a context."""
    assert result.learning is not None
    policy = result.learning.current.policy
    labels = application.actions.choices
    if policy is None:
        return [str(application.baseline_action(context)) for context in contexts]
    observations = np.array([application.encoder.encode(context) for context in contexts])
    everything = np.ones((len(contexts), len(labels)), dtype=bool)
    chosen = policy.distribution(observations, everything).argmax(axis=1)
    return [labels[at] for at in chosen]


def best_answer(application: Application, world: Any, context: Context) -> str:
    """The action with the highest expected reward, which only a world can know."""
    labels = application.actions.choices
    return max(labels, key=lambda label: world.expected_reward(context, label))
