"""Which quest does the board show first to this player, now?

Change it to your game from top to bottom: what is known, what can be done, what it is worth, and
what the game does today. Then `bakehouse check` says in words what it means.
"""

from typing import Any

import numpy as np

from bakehouse import (
    Agent,
    Application,
    BanditWorld,
    Categorical,
    Context,
    Discrete,
    EpsilonGreedy,
    Happening,
    Numeric,
    Reward,
    Rollout,
    Training,
    seconds,
)

STYLES = ["fighter", "explorer", "builder"]


def todays_rules(context: Context) -> str:
    """What the game does without Bakehouse: the answer whenever nothing better is known."""
    return "fight" if context["level"] < 20 else "explore"


application = Application(
    name="my-game",
    # What is known when the game asks. Numbers need no bounds, but learn sooner with them.
    observation=[
        Numeric("level", low=1, high=50),
        Numeric("losses_today", low=0, high=10),
        Categorical("style", values=STYLES),
    ],
    # What can be done.
    actions=Discrete("fight", "explore", "craft"),
    # What it was worth. A player who says nothing within the window has left: that is the default.
    # Your window may be minutes or hours: what is still open is learned from meanwhile.
    reward=Reward(
        {"quest_done": 1.0, "quest_left": -0.5},
        window=seconds(6),
        default=-0.5,
        closes_after=1,  # one of these names, and nothing more is awaited
    ),
    baseline=todays_rules,
    agent=Agent("neural_greedy", hidden=[32, 32]),  # `bakehouse compare` tries the others
    exploration=EpsilonGreedy(0.1, start=0.5, decay=4_000),  # from half of all answers to a tenth
    training=Training(every=seconds(0.5)),
    rollout=Rollout(holdout=0.10),  # these players stay on the rules, for comparison
)


# Below: simulated players, for `bakehouse demo` and the test. A page for real players needs none.

LIKES = {
    "fighter": {"fight": 0.85, "explore": 0.35, "craft": 0.15},
    "explorer": {"fight": 0.20, "explore": 0.80, "craft": 0.40},
    "builder": {"fight": 0.10, "explore": 0.30, "craft": 0.85},
}
TIRED_FROM = 6  # losses in a day, after which a fight is the last thing wanted


class Players(BanditWorld):
    """Everybody who plays."""

    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        """A player who asks."""
        return {
            "level": int(rng.integers(1, 51)),
            "losses_today": int(rng.integers(0, 11)),
            "style": STYLES[rng.integers(len(STYLES))],
        }

    def chance(self, context: Context, action: str) -> float:
        """Probability that this player finishes this quest."""
        tired = action == "fight" and context["losses_today"] >= TIRED_FROM
        return LIKES[context["style"]][action] * (0.3 if tired else 1.0)

    def happenings(
        self, context: Context, action: str, rng: np.random.Generator
    ) -> list[Happening]:
        """What comes of it, and how many seconds later."""
        if rng.random() < self.chance(context, action):
            return [Happening(float(rng.uniform(1.0, 4.0)), "quest_done")]
        if rng.random() < 0.7:
            return [Happening(float(rng.uniform(0.2, 2.0)), "quest_left")]
        return []  # gone without a word

    def expected_reward(self, context: Context, action: str) -> float:
        """The truth, which no learner is told: what the demo measures policies by."""
        chance = self.chance(context, action)
        return chance * 1.0 + (1 - chance) * -0.5


world = Players()
