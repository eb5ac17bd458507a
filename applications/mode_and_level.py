"""Which mode, how hard, and for how long? Three decisions that only make sense together.

A race is best at the edge of what a player can do, a duel against somebody a little weaker, and
either is over sooner for who has played all evening; a story never fails and never thrills. So no
level is right before the mode is chosen, and a mode that is judged before its level is found loses
to the story. Run it with `bakehouse demo --application applications/mode_and_level.py`, read it
from top to bottom.
"""

from math import exp
from typing import Any

import numpy as np

from bakehouse import (
    Agent,
    AgentsOwn,
    Application,
    Bandit,
    BanditWorld,
    Boolean,
    Categorical,
    Context,
    Continuous,
    Delivery,
    Discrete,
    Gate,
    Happening,
    Numeric,
    Parts,
    Reward,
    Rollout,
    Training,
    seconds,
)

SEGMENTS = ["new", "regular", "veteran"]


def rules(context: Context) -> dict[str, Any]:
    """The game's rules today: a race for everybody, as hard as the player is skilled."""
    return {"mode": "race", "level": [context["skill"]], "minutes": [6.0]}


application = Application(
    name="mode-and-level",
    observation=[
        Numeric("skill", low=0, high=1),
        Numeric("losses_in_a_row", low=0, high=5),
        Numeric("minutes_today", low=0, high=120),
        Boolean("friends_online"),
        Categorical("segment", values=SEGMENTS),
    ],
    actions=Parts(
        {
            "mode": Discrete("race", "duel", "story"),
            "level": Continuous(low=0, high=1),
            "minutes": Continuous(low=2, high=14),
        }
    ),
    problem=Bandit(),
    reward=Reward({"again": 1.0, "left": -0.5}, window=seconds(6), default=0.0, closes_after=1),
    baseline=rules,
    # On policy: the agent draws, and learns how much to vary each of the three.
    agent=Agent("ppo", hidden=[64, 64], entropy=0.03),
    exploration=AgentsOwn(uniform=0.5, floor=0.01),
    training=Training(every=seconds(0.5), buffer=50_000, batch=256, steps=20, seed=0),
    gate=Gate(confidence=0.95, margin=0.1),
    rollout=Rollout(holdout=0.10),
)


# Below: simulated players, of whom everything is known, so that a policy can be judged exactly.

PRACTICE = {"new": -0.1, "regular": 0.0, "veteran": 0.15}
WORTH = {  # how well each mode is liked at its best, alone and with friends online
    "race": (0.9, 0.5),
    "duel": (0.4, 0.9),
    "story": (0.45, 0.45),
}
TOLERANCE = {"race": 0.25, "duel": 0.25, "story": 0.8}  # of the level


class Players(BanditWorld):
    # 1 in 100 outcomes never arrives, 1 in 50 arrives twice, and 1 in 50 after its window is over.
    delivery = Delivery(loss=0.01, duplicates=0.02, late=0.02, late_by_s=7.0)

    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        return {
            "skill": round(float(rng.random()), 3),
            "losses_in_a_row": int(min(rng.geometric(0.5) - 1, 5)),
            "minutes_today": round(float(rng.uniform(0, 120)), 1),
            "friends_online": bool(rng.random() < 0.5),
            "segment": SEGMENTS[rng.integers(3)],
        }

    def suits(self, context: Context, mode: str) -> tuple[float, float]:
        """Level and minutes at which this mode is at its best for this player."""
        strength = context["skill"] + PRACTICE[context["segment"]]
        strength = min(max(strength - 0.06 * context["losses_in_a_row"], 0.0), 1.0)
        rested = 1 - context["minutes_today"] / 120
        if mode == "race":
            return 0.1 + 0.85 * strength, 3.0 + 5.0 * rested
        if mode == "duel":
            return 0.05 + 0.55 * strength, 4.0 + 7.0 * rested
        return 0.5, 8.0 + 4.0 * rested

    def chance(self, context: Context, action: Any) -> float:
        """That the player goes on after this."""
        level, minutes = self.suits(context, action["mode"])
        off = (action["level"][0] - level) / TOLERANCE[action["mode"]]
        long = (action["minutes"][0] - minutes) / 5.0
        worth = WORTH[action["mode"]][int(context["friends_online"])]
        return float(0.05 + worth * exp(-(off**2) - long**2))

    def happenings(
        self, context: Context, action: Any, rng: np.random.Generator
    ) -> list[Happening]:
        again = self.chance(context, action)
        u = rng.random()
        if u < again:
            return [Happening(float(rng.uniform(0.5, 5.0)), "again")]
        if u < again + (1 - again) / 2:
            return [Happening(float(rng.uniform(0.1, 1.5)), "left")]
        return []  # the other half of those who stop say nothing

    def expected_reward(self, context: Context, action: Any) -> float:
        again = self.chance(context, action)
        return again - 0.5 * (1 - again) / 2

    def best_action(self, context: Context) -> dict[str, Any]:
        def at_its_best(mode: str) -> dict[str, Any]:
            level, minutes = self.suits(context, mode)
            return {"mode": mode, "level": [level], "minutes": [minutes]}

        return max(map(at_its_best, WORTH), key=lambda action: self.chance(context, action))


world = Players()
