"""Which game for this pair, and how hard? What is hard in the one is easy in the other.

The level that suits a player rises with boldness in a duel and falls with it in a race, so no
level is right before the game is chosen, and company decides which game that is.
"""

from math import exp
from typing import Any

import numpy as np

from bakehouse import (
    Agent,
    Application,
    BanditWorld,
    Boolean,
    Categorical,
    Context,
    Continuous,
    Delivery,
    Discrete,
    Happening,
    Numeric,
    Parts,
    Reward,
    Training,
    seconds,
)

application = Application(
    name="stage",
    observation=[
        Numeric("boldness", low=-1, high=1),
        Boolean("company"),
        Categorical("platform", values=["phone", "tablet", "console"]),  # of no consequence
    ],
    actions=Parts({"game": Discrete("duel", "race"), "level": Continuous(low=0, high=10)}),
    reward=Reward({"stays": 1.0}, window=seconds(4), closes_after=1),
    baseline=lambda context: {"game": "race", "level": [5.0]},
    agent=Agent("ppo"),
    training=Training(every=seconds(0.5), buffer=20_000, batch=128, steps=30),
)


class Guests(BanditWorld):
    delivery = Delivery(loss=0.01, duplicates=0.02, late=0.02, late_by_s=5.0)

    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        return {
            "boldness": round(float(rng.uniform(-1, 1)), 3),
            "company": bool(rng.random() < 0.5),
            "platform": ("phone", "tablet", "console")[rng.integers(3)],
        }

    def happenings(
        self, context: Context, action: Any, rng: np.random.Generator
    ) -> list[Happening]:
        if rng.random() >= self.expected_reward(context, action):
            return []
        return [Happening(float(rng.uniform(0.2, 3.0)), "stays")]

    def expected_reward(self, context: Context, action: Any) -> float:
        [level] = action["level"]
        off = (level - self.level(context, action["game"])) / 2.5
        liking = 0.8 if action["game"] == self.game(context) else 0.25
        return 0.1 + liking * exp(-(off**2))

    def best_action(self, context: Context) -> Any:
        game = self.game(context)
        return {"game": game, "level": [self.level(context, game)]}

    @staticmethod
    def game(context: Context) -> str:
        return "duel" if context["company"] else "race"

    @staticmethod
    def level(context: Context, game: str) -> float:
        """The one that suits, 1 to 9."""
        return 5.0 + 4.0 * float(context["boldness"]) * (1 if game == "duel" else -1)


world = Guests()
