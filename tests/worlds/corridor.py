"""Four doors in a row, a treasure behind the last, and a coin to be had at each of them.

Who looks at the next reward alone takes the first coin and is out. Each door has its own key, so
no single answer leads through, and what a door is worth shows only behind the last.
"""

from collections.abc import Hashable
from typing import Any

import numpy as np

from bakehouse import (
    Agent,
    Application,
    Categorical,
    Context,
    Delivery,
    Discrete,
    Episodic,
    EpisodicWorld,
    EpsilonGreedy,
    Happening,
    Reward,
    Training,
    Transition,
    seconds,
)

DOORS = ["oak", "iron", "glass", "gold"]
OPENS = {"oak": "brass key", "iron": "silver key", "glass": "silver key", "gold": "brass key"}
PATIENCE = 0.7  # who tries the wrong key stays with this probability

application = Application(
    name="corridor",
    observation=[
        Categorical("door", values=DOORS),
        Categorical("platform", values=["phone", "tablet"]),  # of no consequence
    ],
    actions=Discrete("brass key", "silver key", "coin"),
    problem=Episodic(discount=0.95, n_step=2, timeout=seconds(6)),
    reward=Reward({"coin": 0.5, "treasure": 4.0}, window=seconds(2)),
    baseline=lambda context: "brass key",
    agent=Agent("dqn", hidden=[64, 64]),
    exploration=EpsilonGreedy(0.1, start=0.7, floor=0.01, decay=3_000),
    training=Training(every=seconds(0.5), buffer=20_000, batch=128, steps=30),
)


class Burglars(EpisodicWorld):
    delivery = Delivery(loss=0.005, duplicates=0.02, late=0.02, late_by_s=3.0)
    pause_s = (0.2, 0.6)
    vanishing = 0.01
    states = tuple(DOORS)

    def start(self) -> dict[Hashable, float]:
        return {"oak": 1.0}

    def context(self, state: Any, rng: np.random.Generator) -> dict[str, Any]:
        return {"door": state, "platform": ("phone", "tablet")[rng.integers(2)]}

    def state_of(self, context: Context) -> Hashable:
        return str(context["door"])

    def transitions(self, state: Any, action: str) -> list[Transition]:
        if action == "coin":
            return [Transition(1.0, 0.5, None)]
        if action != OPENS[state]:
            return [Transition(PATIENCE, 0.0, state), Transition(1 - PATIENCE, 0.0, None)]
        if state == DOORS[-1]:
            return [Transition(1.0, 4.0, None)]
        return [Transition(1.0, 0.0, DOORS[DOORS.index(state) + 1])]

    def happenings(
        self, state: Any, action: str, went: Transition, rng: np.random.Generator
    ) -> list[Happening]:
        if went.reward == 0.0:
            return []
        name = "coin" if action == "coin" else "treasure"
        return [Happening(float(rng.uniform(0.1, 0.5)), name)]


world = Burglars()
