"""Which difficulty should the next level have, for this player, now?

Too easy and a strong player wanders off without a word; too hard and a tired one quits. The
game's rules look at skill alone. Run it with `bakehouse demo`, read it from top to bottom.
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
    Delivery,
    Discrete,
    EpsilonGreedy,
    Gate,
    Happening,
    Numeric,
    Reward,
    Rollout,
    Training,
    seconds,
)

SEGMENTS = ["new", "regular", "veteran"]
DEVICES = ["phone", "tablet"]


def by_skill(context: Context) -> str:
    """The game's rules today."""
    if context["skill"] < 0.35:
        return "easy"
    return "normal" if context["skill"] < 0.75 else "hard"


application = Application(
    name="level-difficulty",
    observation=[
        Numeric("skill", low=0, high=1),
        Numeric("losses_in_a_row", low=0, high=5),
        Numeric("minutes_today", low=0, high=120),
        Categorical("segment", values=SEGMENTS),
        Categorical("device", values=DEVICES),
        Categorical("country", buckets=8),
    ],
    actions=Discrete("easy", "normal", "hard"),
    problem=Bandit(),
    # Whoever says nothing for 8 seconds has left: silence is the worst outcome, and the default.
    reward=Reward(
        {"level_won": 1.0, "level_lost": 0.0, "quit": -1.0},
        window=seconds(8),
        default=-1.0,
        closes_after=1,
    ),
    baseline=by_skill,
    agent=Agent("neural_greedy", hidden=[64, 64]),
    exploration=EpsilonGreedy(0.1, start=0.5, floor=0.01, decay=6_000),
    training=Training(every=seconds(0.5), buffer=50_000, batch=256, steps=20, seed=0),
    gate=Gate(confidence=0.95, margin=0.1),
    rollout=Rollout(holdout=0.10),
)


# Below: simulated players, of whom everything is known, so that a policy can be judged exactly.

LEVEL = {"easy": 0.15, "normal": 0.5, "hard": 0.85}
PRACTICE = {"new": -0.1, "regular": 0.1, "veteran": 0.35}
COUNTRIES = ["BR", "DE", "IN", "JP", "US"]  # no matter for difficulty; that is to be learned too
OUTCOMES = ("level_won", "level_lost", "quit", "silence")
REWARD = (1.0, 0.0, -1.0, -1.0)  # the weights and the default above


class Players(BanditWorld):
    # 1 in 100 outcomes never arrives, 1 in 50 arrives twice, and 1 in 50 so late that its window
    # is over: it occurred in time, so it amends an experience that already counted as silence.
    delivery = Delivery(loss=0.01, duplicates=0.02, late=0.02, late_by_s=9.0)

    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        return {
            "skill": round(float(rng.random()), 3),
            "losses_in_a_row": int(min(rng.geometric(0.45) - 1, 5)),
            "minutes_today": round(float(rng.uniform(0, 120)), 1),
            "segment": SEGMENTS[rng.integers(3)],
            "device": DEVICES[rng.integers(2)],
            "country": COUNTRIES[rng.integers(5)],
        }

    def chances(self, context: Context, action: str) -> np.ndarray:
        """Probability of each of OUTCOMES: what this player makes of this level."""
        strength = (
            context["skill"]
            - 0.12 * context["losses_in_a_row"]  # confidence goes
            - 0.40 * max(0.0, context["minutes_today"] - 40) / 80  # so does concentration
            + PRACTICE[context["segment"]]
            + (0.04 if context["device"] == "tablet" else 0.0)
        )
        margin = strength - LEVEL[action]  # above 0: the level is easy for this player
        bored = 0.95 / (1 + exp(-14 * (margin - 0.28)))
        wins = 1 / (1 + exp(-14 * (margin + 0.22)))
        won, lost = (1 - bored) * wins, (1 - bored) * (1 - wins)
        return np.array([won, 0.35 * lost, 0.40 * lost, bored + 0.25 * lost])

    def happenings(
        self, context: Context, action: str, rng: np.random.Generator
    ) -> list[Happening]:
        what = OUTCOMES[np.searchsorted(self.chances(context, action).cumsum(), rng.random())]
        if what == "silence":
            return []
        # bad news travels fast: a learner that does not wait for silence must not be fooled by it
        least, most = (0.1, 1.5) if what == "quit" else (0.5, 3.0 + 3.0 * LEVEL[action])
        return [Happening(float(rng.uniform(least, most)), what)]

    def expected_reward(self, context: Context, action: str) -> float:
        # Exact for what occurred: every delay above is within the window. Delivery is left out,
        # as a lost message says nothing about the player.
        return float(self.chances(context, action) @ REWARD)


world = Players()
