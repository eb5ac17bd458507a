"""How much line, and at which angle, for this wind and this kite?

Both numbers have one best value, which bends with the context: a constant flies nobody's kite,
and nothing linear in wind and weight comes close.
"""

from math import exp, sin, tanh
from typing import Any

import numpy as np

from bakehouse import (
    Agent,
    Application,
    BanditWorld,
    Categorical,
    Context,
    Continuous,
    Delivery,
    Gaussian,
    Happening,
    Numeric,
    Reward,
    Training,
    seconds,
)

LENGTH, ANGLE = (5.0, 55.0), (-30.0, 30.0)  # metres, degrees
WIDTH = 0.4  # of half a range: how near is near enough

application = Application(
    name="kites",
    observation=[
        Numeric("wind", low=-1, high=1),
        Numeric("weight", low=-1, high=1),
        Categorical("colour", values=["red", "green"]),  # of no consequence
    ],
    actions=Continuous(low=[LENGTH[0], ANGLE[0]], high=[LENGTH[1], ANGLE[1]]),
    reward=Reward({"flew": 1.0}, window=seconds(4), closes_after=1),
    baseline=lambda context: [30.0, 0.0],
    agent=Agent("td3"),
    exploration=Gaussian(0.08, start=0.4, floor=0.02, decay=3_000),
    training=Training(every=seconds(0.5), buffer=20_000, batch=128, steps=30),
)


class Flyers(BanditWorld):
    delivery = Delivery(loss=0.01, duplicates=0.02, late=0.02, late_by_s=5.0)

    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        wind, weight = rng.uniform(-1, 1, 2).round(3).tolist()
        return {"wind": wind, "weight": weight, "colour": ("red", "green")[rng.integers(2)]}

    def happenings(
        self, context: Context, action: list[float], rng: np.random.Generator
    ) -> list[Happening]:
        if rng.random() >= self.expected_reward(context, action):
            return []
        return [Happening(float(rng.uniform(0.2, 3.0)), "flew")]

    def best_action(self, context: Context) -> list[float]:
        wind, weight = context["wind"], context["weight"]
        length, angle = 0.75 * tanh(5 * wind * weight), 0.75 * sin(3 * wind)  # in half ranges
        return [30.0 + 25.0 * length, 30.0 * angle]

    def expected_reward(self, context: Context, action: list[float]) -> float:
        length, angle = self.best_action(context)
        away = ((action[0] - length) / 25.0) ** 2 + ((action[1] - angle) / 30.0) ** 2
        return 0.05 + 0.9 * exp(-away / (2 * WIDTH**2))


world = Flyers()
