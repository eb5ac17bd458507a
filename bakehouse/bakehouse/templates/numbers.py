"""How much does a quest pay this player, now?

Change it to your game from top to bottom: what is known, what can be done, what it is worth, and
what the game does today. Then `bakehouse check` says in words what it means.
"""

from math import exp
from typing import Any

import numpy as np

from bakehouse import (
    Agent,
    Application,
    BanditWorld,
    Categorical,
    Context,
    Continuous,
    Gaussian,
    Happening,
    Numeric,
    Reward,
    Rollout,
    Training,
    seconds,
)

GOALS = ["collector", "racer"]


def todays_rules(context: Context) -> list[float]:
    """What the game does without Bakehouse: the answer whenever nothing better is known."""
    return [100.0 + 2.0 * context["level"]]


application = Application(
    name="my-game",
    # What is known when the game asks. Numbers need no bounds, but learn sooner with them.
    observation=[
        Numeric("level", low=1, high=50),
        Categorical("goal", values=GOALS),
    ],
    # What can be done: one number of coins (`length=2` would be two numbers).
    actions=Continuous(low=50, high=400),
    # What it was worth. A player who says nothing within the window has left: that is the default.
    # Your window may be minutes or hours: what is still open is learned from meanwhile.
    reward=Reward(
        {"played_on": 1.0, "left": 0.0},
        window=seconds(6),
        closes_after=1,  # one of these names, and nothing more is awaited
    ),
    baseline=todays_rules,
    agent=Agent("td3", hidden=[64, 64]),  # `bakehouse compare` tries the others
    exploration=Gaussian(0.08, start=0.25),  # spread of the answer, as a share of its range
    training=Training(every=seconds(0.5)),
    rollout=Rollout(holdout=0.10),  # these players stay on the rules, for comparison
)


# Below: simulated players, for `bakehouse demo` and the test. A page for real players needs none.


class Players(BanditWorld):
    """Everybody who plays."""

    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        """A player who asks."""
        return {"level": int(rng.integers(1, 51)), "goal": GOALS[rng.integers(len(GOALS))]}

    def chance(self, context: Context, action: list[float]) -> float:
        """Probability that this player plays on: the pay should be neither dull nor a gift."""
        wanted = 80.0 + 3.0 * context["level"] + (120.0 if context["goal"] == "collector" else 0.0)
        return 0.1 + 0.8 * exp(-(((action[0] - wanted) / 60.0) ** 2))

    def happenings(
        self, context: Context, action: list[float], rng: np.random.Generator
    ) -> list[Happening]:
        """What comes of it, and how many seconds later."""
        if rng.random() < self.chance(context, action):
            return [Happening(float(rng.uniform(1.0, 4.0)), "played_on")]
        return [Happening(float(rng.uniform(0.2, 2.0)), "left")] if rng.random() < 0.7 else []

    def expected_reward(self, context: Context, action: list[float]) -> float:
        """The truth, which no learner is told: what the demo measures policies by."""
        return self.chance(context, action)


world = Players()
