"""How much health, and how hard a hit, should the next boss have, for this player, now?

A fight is remembered when it is won with the last breath. How long it may last and how much it
may hurt differ for everybody: a good archer in cloth wants a long fight with few blows, who has
died three times tonight wants it over soon. The game's rules look at the level alone. Run it with
`bakehouse demo --application applications/boss_health.py`, read it from top to bottom.
"""

from math import exp
from typing import Any

import numpy as np

from bakehouse import (
    Agent,
    Application,
    Bandit,
    BanditWorld,
    Categorical,
    Context,
    Continuous,
    Delivery,
    Gate,
    Gaussian,
    Happening,
    Numeric,
    Reward,
    Rollout,
    Training,
    seconds,
)

WEAPONS = ["sword", "bow", "staff"]
HEALTH, DAMAGE = (500.0, 6_000.0), (5.0, 65.0)  # of the boss; a blow's, in percent of a life


def by_level(context: Context) -> list[float]:
    """The game's rules today."""
    return [1_500.0 + 50.0 * context["level"], 20.0 + 0.5 * context["level"]]


application = Application(
    name="boss-health",
    observation=[
        Numeric("level", low=1, high=40),
        Numeric("skill", low=0, high=1),
        Numeric("armour", low=0, high=1),
        Numeric("deaths_in_a_row", low=0, high=5),
        Numeric("minutes_today", low=0, high=120),
        Categorical("weapon", values=WEAPONS),
    ],
    actions=Continuous(low=[HEALTH[0], DAMAGE[0]], high=[HEALTH[1], DAMAGE[1]]),
    problem=Bandit(),
    # Whoever says nothing for 8 seconds was beaten by the boss, and has gone to do something else.
    reward=Reward(
        {"thrilled": 1.0, "beaten": 0.3, "quit": -1.0},
        window=seconds(8),
        default=0.0,
        closes_after=1,
    ),
    baseline=by_level,
    agent=Agent("td3", hidden=[64, 64]),  # or Agent("sac"), as well
    exploration=Gaussian(0.06, start=0.3, floor=0.02, decay=8_000),
    training=Training(every=seconds(0.5), buffer=50_000, batch=256, steps=30, seed=0),
    gate=Gate(confidence=0.95, margin=0.1),
    rollout=Rollout(holdout=0.10),
)


# Below: simulated players, of whom everything is known, so that a policy can be judged exactly.

STRIKES = {"sword": 1.0, "bow": 1.25, "staff": 0.8}  # damage a second, beside that of the level
WIDTH = np.array([500.0, 6.0])  # how near in health and damage is near enough
OUTCOMES = ("thrilled", "beaten", "quit", "silence")
REWARD = (1.0, 0.3, -1.0, 0.0)  # the weights and the default above


class Players(BanditWorld):
    # 1 in 100 outcomes never arrives, 1 in 50 arrives twice, and 1 in 50 after its window is over.
    delivery = Delivery(loss=0.01, duplicates=0.02, late=0.02, late_by_s=9.0)

    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        return {
            "level": int(rng.integers(1, 41)),
            "skill": round(float(rng.random()), 3),
            "armour": round(float(rng.random()), 3),
            "deaths_in_a_row": int(min(rng.geometric(0.45) - 1, 5)),
            "minutes_today": round(float(rng.uniform(0, 120)), 1),
            "weapon": WEAPONS[rng.integers(3)],
        }

    def best_action(self, context: Context) -> list[float]:
        """The fight that this player wants: as long as patience lasts, as hard as can be stood."""
        strikes = (90 + 3 * context["level"]) * STRIKES[context["weapon"]]
        strikes *= 0.7 + 0.6 * context["skill"]  # who is good hits more often
        patience = 24 - 2 * context["deaths_in_a_row"]  # seconds
        patience *= 1 - 0.4 * max(0.0, context["minutes_today"] - 40) / 80
        health = min(max(strikes * patience, 800.0), 5_700.0)
        stands = 14 + 30 * context["armour"] * (0.5 + 0.5 * context["skill"])
        stands += 8 * context["skill"] - (5 if context["weapon"] == "bow" else 0)
        damage = min(max(stands - 2 * context["deaths_in_a_row"], 7.0), 60.0)
        return [health, damage]

    def chances(self, context: Context, action: list[float]) -> np.ndarray:
        """Probability of each of OUTCOMES: what this player makes of this boss."""
        off = (np.array(action) - self.best_action(context)) / WIDTH
        thrilled = 0.9 * exp(-0.5 * float(off @ off))
        harder = off.sum() > 0
        beaten, quits = (0.1, 0.3) if harder else (0.5, 0.0)  # of the others
        return np.array([thrilled, *(1 - thrilled) * np.array([beaten, quits, 1 - beaten - quits])])

    def happenings(
        self, context: Context, action: list[float], rng: np.random.Generator
    ) -> list[Happening]:
        what = OUTCOMES[np.searchsorted(self.chances(context, action).cumsum(), rng.random())]
        if what == "silence":
            return []
        # bad news travels fast; a fight that is won takes as long as the boss has health
        least, most = (0.1, 1.0) if what == "quit" else (0.5, 1.0 + action[0] / 1_200)
        return [Happening(float(rng.uniform(least, most)), what)]

    def expected_reward(self, context: Context, action: list[float]) -> float:
        return float(self.chances(context, action) @ REWARD)  # every delay is within the window


world = Players()
