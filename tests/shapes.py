"""One action space of each kind, and decisions in it of every exploration, for property tests."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from schemas.actions import Actions, Continuous, Discrete, Parts, Ranking, Shape
from schemas.exploration import Exploration
from schemas.observation import Boolean, Numeric
from schemas.propensity import Own

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
    own: Own  # of one context
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
    own = Own(
        probabilities[None],
        (2.0 * at if squashed else middle + half * at)[None],
        (spread if squashed else half * spread)[None],
        squashed,
    )
    uniform = draw(st.integers(0, (1 << 53) - 1)) / (1 << 53)
    return Case(shape, own, eligible, draw(explorations(kind)), uniform)
