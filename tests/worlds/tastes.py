"""Which of four offers does this player like? Linear in what is known of the player."""

from typing import Any

import numpy as np

from bakehouse import (
    Agent,
    Application,
    BanditWorld,
    Context,
    Delivery,
    Discrete,
    EpsilonGreedy,
    Happening,
    Reward,
    Training,
    Vector,
    seconds,
)

# Row a: how much each of five traits draws a player to offer a. Rows and their sums balance, so
# that no offer is better than another for everybody.
PULLS = np.array(
    [
        [0.20, 0.10, 0.00, -0.10, -0.15],
        [-0.20, 0.15, 0.10, 0.00, 0.10],
        [0.10, -0.20, 0.15, 0.10, -0.05],
        [-0.10, -0.05, -0.25, 0.00, 0.10],
    ]
)

application = Application(
    name="tastes",
    observation=[Vector("traits", length=5, low=-1, high=1)],
    actions=Discrete("hat", "horse", "house", "hound"),
    reward=Reward({"taken": 1.0}, window=seconds(4), closes_after=1),
    baseline=lambda context: "hat",
    agent=Agent("lin_ucb"),
    exploration=EpsilonGreedy(0.1, start=0.5, floor=0.01, decay=3_000),
    training=Training(every=seconds(0.5), buffer=20_000, batch=128, steps=30),
)


class Shoppers(BanditWorld):
    delivery = Delivery(loss=0.01, duplicates=0.02, late=0.02, late_by_s=5.0)

    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"traits": rng.uniform(-1, 1, 5).round(3).tolist()}

    def happenings(
        self, context: Context, action: str, rng: np.random.Generator
    ) -> list[Happening]:
        taken = rng.random() < self.expected_reward(context, action)
        return [Happening(float(rng.uniform(0.2, 3.0)), "taken")] if taken else []

    def expected_reward(self, context: Context, action: str) -> float:
        pull = PULLS[application.actions.labels.index(action)]
        return 0.5 + 0.8 * float(pull @ np.asarray(context["traits"]))


world = Shoppers()
