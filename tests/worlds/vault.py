"""Two doors, each with its key and a force that opens it; a coin for who goes no further.

Who looks at the next reward alone takes the coin. Key and force are right together or not at all,
and what the first door is worth shows only behind the second.
"""

from collections.abc import Hashable, Sequence
from math import exp
from typing import Any

import numpy as np

from bakehouse import (
    Agent,
    Application,
    Categorical,
    Context,
    Continuous,
    Delivery,
    Discrete,
    Episodic,
    EpisodicWorld,
    Happening,
    Parts,
    Reward,
    Training,
    Transition,
    seconds,
)

DOORS = ["oak", "gold"]
OPENS = {"oak": ("brass", 0.25), "gold": ("silver", 0.75)}
KEYS = ["brass", "silver", "coin"]
PATIENCE = 0.8  # who fails stays with this probability

application = Application(
    name="vault",
    observation=[
        Categorical("door", values=DOORS),
        Categorical("platform", values=["phone", "tablet"]),  # of no consequence
    ],
    actions=Parts({"key": Discrete(*KEYS), "force": Continuous(low=0, high=1)}),
    problem=Episodic(discount=0.95, n_step=2, timeout=seconds(6)),
    reward=Reward({"coin": 0.5, "treasure": 4.0}, window=seconds(2)),
    baseline=lambda context: {"key": "brass", "force": [0.5]},
    agent=Agent("ppo"),
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

    def transitions(self, state: Any, action: Any) -> list[Transition]:
        if action["key"] == "coin":
            return [Transition(1.0, 0.5, None)]
        key, force = OPENS[state]
        off = (action["force"][0] - force) / 0.25
        opens = 0.9 * exp(-(off**2)) if action["key"] == key else 0.0
        inside = Transition(opens, 0.0, "gold") if state == "oak" else Transition(opens, 4.0, None)
        return [
            inside,
            Transition((1 - opens) * PATIENCE, 0.0, state),
            Transition((1 - opens) * (1 - PATIENCE), 0.0, None),
        ]

    def grid(self) -> Sequence[Any]:
        forces = np.linspace(0, 1, 21)
        return [{"key": key, "force": [float(force)]} for key in KEYS for force in forces]

    def happenings(
        self, state: Any, action: Any, went: Transition, rng: np.random.Generator
    ) -> list[Happening]:
        if went.reward == 0.0:
            return []
        name = "coin" if action["key"] == "coin" else "treasure"
        return [Happening(float(rng.uniform(0.1, 0.5)), name)]


world = Burglars()
