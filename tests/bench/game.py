"""The game that is measured: an application of ordinary size, and players who are easy to learn.

The gate's margin is wide, so that a whole-stack benchmark measures the loop and not how long it
takes to be sure: version 0 is left as soon as the gate has seen enough to have an opinion.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bakehouse import (
    Agent,
    Application,
    BanditWorld,
    Boolean,
    Categorical,
    Context,
    Discrete,
    EpsilonGreedy,
    Gate,
    Happening,
    Numeric,
    Reward,
    Rollout,
    Training,
    seconds,
)

REF = "tests/bench/game.py"  # how the parts are told to load it
SEGMENTS = ("new", "regular", "veteran", "lapsed")
COUNTRIES = ("BR", "DE", "FR", "IN", "JP", "MX", "PL", "US")
OFFERS = ("none", "small", "medium", "large")


def rules(context: Context) -> str:
    """The game's rules: by spend alone."""
    return OFFERS[1 + int(context["spend"] > 10) + int(context["spend"] > 50)]


application = Application(
    name="bench-offer",
    observation=[
        Numeric("spend", low=0, high=100),
        Numeric("sessions", low=0, high=50),
        Numeric("progress", low=0, high=1),
        Boolean("has_pass"),
        Categorical("segment", values=list(SEGMENTS)),
        Categorical("country", buckets=8),
    ],  # 16 numbers
    actions=Discrete(*OFFERS),
    reward=Reward({"bought": 1.0, "left": -0.5}, window=seconds(4), default=0.0),
    baseline=rules,
    agent=Agent("neural_greedy", hidden=[64, 64]),
    exploration=EpsilonGreedy(0.1, start=0.5, floor=0.01, decay=2_000),
    training=Training(every=seconds(0.5), buffer=50_000, batch=256, steps=20, seed=0),
    gate=Gate(margin=10.0),
    rollout=Rollout(holdout=0.10),
)


class Shoppers(BanditWorld):
    """Every segment has its own best offer, whatever the rules say."""

    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        return {
            "spend": round(float(rng.uniform(0, 100)), 2),
            "sessions": int(rng.integers(0, 50)),
            "progress": round(float(rng.random()), 4),
            "has_pass": bool(rng.random() < 0.3),
            "segment": SEGMENTS[rng.integers(4)],
            "country": COUNTRIES[rng.integers(8)],
        }

    def happenings(
        self, context: Context, action: str, rng: np.random.Generator
    ) -> list[Happening]:
        """One outcome for every decision, so that a loop is one decision and one outcome."""
        bought = rng.random() < self._chance(context, action)
        return [Happening(float(rng.uniform(0.1, 1.0)), "bought" if bought else "left")]

    def expected_reward(self, context: Context, action: str) -> float:
        chance = self._chance(context, action)
        return chance - 0.5 * (1 - chance)

    def _chance(self, context: Context, action: str) -> float:
        away = abs(SEGMENTS.index(context["segment"]) - OFFERS.index(action))
        return 0.8 - 0.2 * away


world = Shoppers()
