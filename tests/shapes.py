"""One action space of each kind, and decisions in it of every exploration, for property tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from bakehouse_schemas.application.actions import Actions, Continuous, Discrete, Parts
from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.application.application import Agent, Application, Rollout, minutes
from bakehouse_schemas.application.exploration import (
    AgentsOwn,
    EpsilonGreedy,
    Exploration,
    Gaussian,
)
from bakehouse_schemas.application.observation import Boolean, Numeric
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.application.shape import Shape
from bakehouse_schemas.execution.base_policy import BasePolicy
from bakehouse_schemas.policy.bundle import LoadedPolicy, Manifest, load_bundle, write_bundle
from bakehouse_schemas.policy.policy import Head

SPACES: dict[str, Actions] = {
    "discrete": Discrete("a", "b", "c", "d"),
    "continuous": Continuous(low=[0.0, -5.0], high=[1.0, 15.0]),
    "parts": Parts(
        {
            "mode": Discrete("story", "arcade", "duel"),
            "speed": Continuous(low=0.5, high=2.0),
            "help": Discrete("on", "off"),
        }
    ),
    "ranking": Ranking(
        k=3, item=[Numeric("price", low=0, high=100), Boolean("rare")], most_items=5
    ),
}
RULES = {
    "epsilon_greedy": ("discrete", "parts", "ranking"),
    "softmax": ("discrete", "ranking"),
    "gaussian": ("continuous", "parts"),
    "own": tuple(SPACES),
    "none": tuple(SPACES),
}


class Case(NamedTuple):
    """All that a draw takes."""

    shape: Shape
    own: BasePolicy  # of one context
    eligible: np.ndarray  # bool [A]
    exploration: Exploration
    draw: float


def items(count: int) -> list[dict[str, Any]]:
    """Items that the ranking ranks."""
    return [{"id": f"item-{n}", "price": 10.0 * n, "rare": n % 2 == 0} for n in range(count)]


@st.composite
def explorations(draw: st.DrawFn, kind: str) -> Exploration:
    """An exploration that this kind of actions can have."""
    rule = draw(st.sampled_from([rule for rule, kinds in RULES.items() if kind in kinds]))
    if rule == "none":
        return Exploration(kind="none")
    return Exploration(
        kind=rule,
        epsilon=draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        floor=draw(st.sampled_from([0.001, 0.01, 0.1])),
        std=draw(st.sampled_from([0.02, 0.3, 2.0])) if rule == "gaussian" else None,
        temperature=0.1 if rule == "softmax" else None,
    )


@st.composite
def cases(draw: st.DrawFn, kind: str) -> Case:
    """A policy's own distribution of this kind of actions, a mask, an exploration and a draw."""
    shape = SPACES[kind].shape
    segments = shape.segments or ((0, shape.choices),)
    eligible = np.array(
        draw(st.lists(st.booleans(), min_size=shape.choices, max_size=shape.choices))
    )
    weights = np.array(
        draw(
            st.lists(
                st.floats(0.0, 1.0) | st.just(0.0), min_size=shape.choices, max_size=shape.choices
            )
        )
    )
    if kind == "continuous":
        eligible[:] = True
    probabilities = np.zeros(shape.choices)
    for start, stop in segments:
        eligible[start + draw(st.integers(0, stop - start - 1))] = True
        mine = weights[start:stop] * eligible[start:stop]
        if not mine.sum() > 1e-3:
            mine = eligible[start:stop].astype(float)
        probabilities[start:stop] = mine / mine.sum()
    squashed = draw(st.booleans())
    half, middle = (shape.high - shape.low) / 2, (shape.high + shape.low) / 2
    at = np.array(draw(st.lists(st.floats(-1, 1), min_size=shape.dims, max_size=shape.dims)))
    spread = np.array(
        draw(st.lists(st.floats(0.01, 1.5), min_size=shape.dims, max_size=shape.dims))
    )
    own = BasePolicy(
        probabilities[None],
        (2.0 * at if squashed else middle + half * at)[None],
        (spread if squashed else half * spread)[None],
        squashed,
    )
    uniform = draw(st.integers(0, (1 << 53) - 1)) / (1 << 53)
    return Case(shape, own, eligible, draw(explorations(kind)), uniform)


NOISE = {"continuous": Gaussian(0.1), "parts": Gaussian(0.1), "ranking": EpsilonGreedy(0.1)}
SHAPED = tuple(NOISE)  # kinds that are no labels


def rules(kind: str) -> Callable[[Any], Any]:
    """A baseline of this kind: the same for everybody."""
    if kind == "ranking":
        return lambda context: [item["id"] for item in context["items"][:3]]
    answer = {
        "continuous": [0.25, 5.0],
        "parts": {"mode": "arcade", "speed": [1.5], "help": "off"},
    }[kind]
    return lambda context: answer


def shaped(kind: str, **changes: Any) -> Application:
    """An application that decides in the space of this kind."""
    fitting = [n for n, k in AGENTS.items() if kind in k.actions and "bandit" in k.problems]
    fitting.sort(key=lambda name: AGENTS[name].stochastic)  # those that noise is added to first
    own = AGENTS[fitting[0]].stochastic
    given: dict[str, Any] = {
        "name": kind,
        "observation": [Numeric("skill", low=0, high=1)],
        "actions": SPACES[kind],
        "reward": Reward({"won": 1.0}, window=minutes(1)),
        "baseline": rules(kind),
        "agent": Agent(fitting[0]),
        "exploration": AgentsOwn() if own else NOISE[kind],
        "rollout": Rollout(holdout=0.0),
    }
    return Application(**given | changes)


def bundled(folder: Path, application: Application, version: int = 3) -> LoadedPolicy:
    """A policy of this kind, made by hand: sure of one answer, whoever asks.

    It wants (0.75, 0), or `story`, the middle of the speeds and `on`, or the dearest items first.
    """
    shape, kind = application.shape, application.shape.kind
    size = application.encoder.size
    answers = {
        "continuous": [0.5, -0.5],
        "parts": [4.0, 0.0, 0.0, 4.0, 0.0, 0.0, -2.0],
        "ranking": [0.0],
    }
    heads = {"continuous": "gaussian", "parts": "parts", "ranking": "plackett_luce"}
    weight = np.zeros((size + (shape.features if kind == "ranking" else 0), len(answers[kind])))
    if kind == "ranking":
        weight[size, 0] = 1.0  # of the price
    arrays = {
        "normaliser_offset": np.zeros(size),
        "normaliser_scale": np.ones(size),
        "normaliser_clip": np.array(5.0),
        "w": weight,
        "b": np.array(answers[kind]),
    }
    golden_items = None
    if kind == "ranking":
        arrays |= {"item_offset": np.zeros(shape.features), "item_scale": np.ones(shape.features)}
        arrays["item_clip"] = np.array(100.0)
        golden_items = np.zeros((2, shape.choices, shape.features), np.float32)
    manifest = Manifest(
        application=application.name,
        contract=application.contract,
        version=version,
        lineage="one",
        anchor=0,
        agent=application.agent.name,
        actions=list(application.actions.choices),
        shape=shape.described(),
        operations=[{"op": "dense", "weight": "w", "bias": "b"}],
        head=Head(kind=heads[kind]),  # type: ignore[arg-type] # one of its kinds
        exploration=application.exploration.after(1 << 40),
        seed=0,
        replay_version=1,
        stream_time_ms=1,
        created_at_ms=1,
        experiences=1,
        new_experiences=1,
        new_outcomes_received_at_ms=[],
    )
    sha256 = write_bundle(
        folder / str(version),
        manifest,
        {name: array.astype(np.float32) for name, array in arrays.items()},
        golden_observations=np.zeros((2, size), np.float32),
        golden_eligible=np.ones((2, shape.choices), bool),
        golden_items=golden_items,
    )
    return load_bundle(
        folder / str(version),
        application=application.name,
        contract=application.contract,
        sha256=sha256,
        labels=application.actions.choices,
        shape=shape,
        dimensions=size,
    )
