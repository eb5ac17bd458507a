"""Which three of up to eight things go on the shelf, in which order?

What pleases one player displeases their opposite, so nothing is popular; what is seen first is
bought most, whatever it is; and no two shelves are filled from the same things.
"""

from math import exp
from typing import Any

import numpy as np

from bakehouse import (
    Agent,
    Application,
    BanditWorld,
    Boolean,
    Context,
    Delivery,
    EpsilonGreedy,
    Happening,
    Numeric,
    Ranking,
    Reward,
    Training,
    Vector,
    seconds,
)

SEEN = (0.9, 0.5, 0.25)  # how often the first place is looked at, the second, the third
MOST = 8

application = Application(
    name="shelves",
    observation=[Vector("taste", length=2, low=-1, high=1)],
    actions=Ranking(
        k=3,
        item=[
            Numeric("bright", low=-1, high=1),
            Numeric("heavy", low=-1, high=1),
            Boolean("wrapped"),  # of no consequence
        ],
        most_items=MOST,
    ),
    reward=Reward({"bought": 1.0}, window=seconds(4)),
    baseline=lambda context: [item["id"] for item in context["items"][:3]],
    agent=Agent("rank", hidden=[64, 64]),
    exploration=EpsilonGreedy(0.1, start=0.7, floor=0.01, decay=3_000),
    training=Training(every=seconds(0.5), buffer=20_000, batch=128, steps=30),
)


class Visitors(BanditWorld):
    delivery = Delivery(loss=0.01, duplicates=0.02, late=0.02, late_by_s=5.0)

    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"taste": rng.uniform(-1, 1, 2).round(3).tolist()}

    def items(self, context: Context, rng: np.random.Generator) -> list[dict[str, Any]]:
        return [
            {
                "id": f"thing-{rng.integers(1_000_000)}-{at}",
                "bright": round(float(rng.uniform(-1, 1)), 3),
                "heavy": round(float(rng.uniform(-1, 1)), 3),
                "wrapped": bool(rng.random() < 0.5),
            }
            for at in range(rng.integers(4, MOST + 1))
        ]

    def chance(self, context: Context, item: Any) -> float:
        """Of being bought, once it is looked at."""
        bright, heavy = context["taste"]
        return 0.75 / (1 + exp(-4 * (bright * item["bright"] + heavy * item["heavy"]) + 1.5))

    def _chances(self, context: Context, action: list[str]) -> list[float]:
        by_id = {item["id"]: self.chance(context, item) for item in context["items"]}
        return [seen * by_id[one] for seen, one in zip(SEEN, action, strict=False)]

    def happenings(
        self, context: Context, action: Any, rng: np.random.Generator
    ) -> list[Happening]:
        return [
            Happening(float(rng.uniform(0.2, 3.0)), "bought")
            for chance in self._chances(context, action)
            if rng.random() < chance
        ]

    def expected_reward(self, context: Context, action: Any) -> float:
        return sum(self._chances(context, action))

    def best_action(self, context: Context) -> list[str]:
        ranked = sorted(context["items"], key=lambda item: -self.chance(context, item))
        return [item["id"] for item in ranked[:3]]


world = Visitors()
