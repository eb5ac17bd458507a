"""Match players with their like, or with their opposite? Neither trait says it alone.

Whether `same` pleases depends on the product of two traits, so nothing linear in them knows
more than a coin does, and each action is as good as another for everybody together.
"""

from math import tanh
from typing import Any

import numpy as np

from bakehouse import (
    Agent,
    Application,
    BanditWorld,
    Categorical,
    Context,
    Delivery,
    Discrete,
    EpsilonGreedy,
    Happening,
    Numeric,
    Reward,
    Training,
    seconds,
)

application = Application(
    name="crossed",
    observation=[
        Numeric("boldness", low=-1, high=1),
        Numeric("patience", low=-1, high=1),
        Categorical("platform", values=["phone", "tablet", "console"]),  # of no consequence
    ],
    actions=Discrete("same", "opposite", "anybody"),
    reward=Reward({"friends": 1.0, "left": -1.0}, window=seconds(4), closes_after=1),
    baseline=lambda context: "anybody",
    agent=Agent("neural_greedy", hidden=[64, 64]),
    exploration=EpsilonGreedy(0.1, start=0.5, floor=0.01, decay=3_000),
    training=Training(every=seconds(0.5), buffer=20_000, batch=128, steps=30),
)


class Strangers(BanditWorld):
    delivery = Delivery(loss=0.01, duplicates=0.02, late=0.02, late_by_s=5.0)

    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        boldness, patience = rng.uniform(-1, 1, 2).round(3).tolist()
        platform = ("phone", "tablet", "console")[rng.integers(3)]
        return {"boldness": boldness, "patience": patience, "platform": platform}

    def happenings(
        self, context: Context, action: str, rng: np.random.Generator
    ) -> list[Happening]:
        likes = rng.random() < 0.5 + self.expected_reward(context, action) / 2
        return [Happening(float(rng.uniform(0.2, 3.0)), "friends" if likes else "left")]

    def expected_reward(self, context: Context, action: str) -> float:
        alike = tanh(6 * context["boldness"] * context["patience"])
        return {"same": 0.8 * alike, "opposite": -0.8 * alike, "anybody": 0.0}[action]


world = Strangers()
