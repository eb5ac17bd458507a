"""Three firings of a pot, each with a heat of its own, and a prize for who gets it through.

The hotter, the more is paid for the show right now. Who looks at that alone cracks the first pot.
"""

from collections.abc import Hashable
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
    Episodic,
    EpisodicWorld,
    Gaussian,
    Happening,
    Reward,
    Training,
    Transition,
    seconds,
)

COLDEST, HOTTEST = 200.0, 1_200.0  # degrees
HEAT = {"drying": 0.2, "bisque": 0.75, "glaze": 0.35}  # of the range
FIRINGS = list(HEAT)
WIDTH = 0.2  # of the range: how near is near enough
SHOW, PRIZE = 0.5, 4.0

application = Application(
    name="kiln",
    observation=[
        Categorical("firing", values=FIRINGS),
        Categorical("clay", values=["red", "white"]),  # of no consequence
    ],
    actions=Continuous(low=COLDEST, high=HOTTEST),
    problem=Episodic(discount=0.95, n_step=2, timeout=seconds(6)),
    reward=Reward({"show": SHOW, "prize": PRIZE}, window=seconds(2)),
    baseline=lambda context: [700.0],
    agent=Agent("td3"),
    exploration=Gaussian(0.06, start=0.5, floor=0.02, decay=4_000),
    training=Training(every=seconds(0.5), buffer=20_000, batch=128, steps=30),
)


class Potters(EpisodicWorld):
    delivery = Delivery(loss=0.005, duplicates=0.02, late=0.02, late_by_s=3.0)
    pause_s = (0.2, 0.6)
    vanishing = 0.01
    states = tuple(FIRINGS)

    def start(self) -> dict[Hashable, float]:
        return {FIRINGS[0]: 1.0}

    def context(self, state: Any, rng: np.random.Generator) -> dict[str, Any]:
        return {"firing": state, "clay": ("red", "white")[rng.integers(2)]}

    def state_of(self, context: Context) -> Hashable:
        return str(context["firing"])

    def grid(self) -> list[list[float]]:
        return [[float(heat)] for heat in np.linspace(COLDEST, HOTTEST, 51)]

    def transitions(self, state: Any, action: list[float]) -> list[Transition]:
        heat = (action[0] - COLDEST) / (HOTTEST - COLDEST)
        holds = exp(-((heat - HEAT[state]) ** 2) / (2 * WIDTH**2))
        paid = SHOW * heat
        if state == FIRINGS[-1]:
            return [Transition(holds, paid + PRIZE, None), Transition(1 - holds, paid, None)]
        onward = FIRINGS[FIRINGS.index(state) + 1]
        return [Transition(holds, paid, onward), Transition(1 - holds, paid, None)]

    def happenings(
        self, state: Any, action: list[float], went: Transition, rng: np.random.Generator
    ) -> list[Happening]:
        heat = (action[0] - COLDEST) / (HOTTEST - COLDEST)
        found = [Happening(float(rng.uniform(0.1, 0.3)), "show", heat)]
        if went.reward > SHOW * heat + PRIZE / 2:
            found.append(Happening(float(rng.uniform(0.3, 0.5)), "prize"))
        return found


world = Potters()
