"""Which quest comes next, when the best quest now spoils the best story later?

A quest line has four chapters. Treasure pleases at once; a story pleases nobody today, but makes
the companion a friend, then an ally; and a trial, won beside an ally, is what people remember.
A policy that looks at the next reward alone opens chests for ever.
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
    Gate,
    Happening,
    Reward,
    Rollout,
    Training,
    Transition,
    seconds,
)

CHAPTERS = ["village", "forest", "ruins", "castle"]
BONDS = ["stranger", "friend", "ally"]
STYLES = ["explorer", "fighter"]
LANGUAGES = ["de", "en", "ja", "pt"]  # the game sends it along; nobody observes it


def by_chapter(context: Context) -> str:
    """The game's rules today: chests along the way, a trial at the end."""
    return "trial" if context["chapter"] == "castle" else "treasure"


application = Application(
    name="quest-chain",
    observation=[
        Categorical("chapter", values=CHAPTERS),
        Categorical("companion", values=BONDS),
        Categorical("style", values=STYLES),
    ],
    actions=Discrete("treasure", "story", "trial"),
    problem=Episodic(discount=0.95, n_step=2, timeout=seconds(6)),
    reward=Reward({"chest_opened": 0.5, "trial_won": 4.0, "trial_lost": -0.5}, window=seconds(3)),
    baseline=by_chapter,
    agent=Agent("dqn", hidden=[64, 64]),
    exploration=EpsilonGreedy(0.1, start=0.5, floor=0.01, decay=6_000),
    training=Training(every=seconds(0.5), buffer=50_000, batch=256, steps=40, seed=0),
    gate=Gate(confidence=0.95, margin=0.1),
    rollout=Rollout(holdout=0.10),
)


# Below: simulated players, of whom everything is known, so that a policy can be judged exactly.

OPENS_CHEST = 0.8
GROWS_CLOSER = {"explorer": 0.95, "fighter": 0.7}  # by a story, one step along BONDS
WINS_TRIAL = {
    "explorer": {"stranger": 0.05, "friend": 0.25, "ally": 0.9},
    "fighter": {"stranger": 0.10, "friend": 0.70, "ally": 0.9},
}
COMES_OF = {
    ("treasure", 0.5): "chest_opened",
    ("trial", 4.0): "trial_won",
    ("trial", -0.5): "trial_lost",
}


class Players(EpisodicWorld):
    delivery = Delivery(loss=0.005, duplicates=0.02, late=0.02, late_by_s=4.0)
    pause_s = (0.2, 0.8)
    vanishing = 0.01
    states = tuple((c, b, s) for c in CHAPTERS for b in BONDS for s in STYLES)

    def start(self) -> dict[Hashable, float]:
        return {("village", "stranger", style): 0.5 for style in STYLES}

    def context(self, state: Any, rng: np.random.Generator) -> dict[str, Any]:
        known = dict(zip(("chapter", "companion", "style"), state, strict=True))
        return known | {"language": LANGUAGES[rng.integers(4)]}

    def state_of(self, context: Context) -> Hashable:
        return (context["chapter"], context["companion"], context["style"])

    def transitions(self, state: Any, action: str) -> list[Transition]:
        chapter, bond, style = state
        if action == "trial":  # won or lost, it ends the quest line
            wins = WINS_TRIAL[style][bond]
            return [Transition(wins, 4.0, None), Transition(1 - wins, -0.5, None)]
        on = CHAPTERS.index(chapter) + 1
        if on == len(CHAPTERS):
            here = closer = None
        else:
            here = (CHAPTERS[on], bond, style)
            closer = (CHAPTERS[on], BONDS[min(BONDS.index(bond) + 1, 2)], style)
        if action == "treasure":
            return [
                Transition(OPENS_CHEST, 0.5, here),
                Transition(1 - OPENS_CHEST, 0.0, here),
            ]
        grows = GROWS_CLOSER[style]
        return [Transition(grows, 0.0, closer), Transition(1 - grows, 0.0, here)]

    def happenings(
        self, state: Any, action: str, went: Transition, rng: np.random.Generator
    ) -> list[Happening]:
        name = COMES_OF.get((action, went.reward))
        slowest = 0.3 + 0.1 * CHAPTERS.index(state[0])  # seconds: later quests are longer
        return [] if name is None else [Happening(float(rng.uniform(0.1, slowest)), name)]


world = Players()
