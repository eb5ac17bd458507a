"""Which wall, for players who write markup wherever a word belongs?

Labels, outcomes and what a context says are such as a hostile game would send: whatever shows
them must show text. Each player likes the wall that is like the last one, so there is something
to learn.
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
    Gate,
    Happening,
    Numeric,
    Reward,
    Rollout,
    Training,
    seconds,
)

SPRAY = "<img src=x onerror=executed++>"
WALLS = ["plain", f"wall{SPRAY}", "<script>executed++</script>"]
LIKED = f"liked{SPRAY}"
LAST = f"last{SPRAY}"

application = Application(
    name="graffiti",
    observation=[Categorical(LAST, buckets=8), Numeric("hour", low=0, high=24)],
    actions=Discrete(*WALLS),
    reward=Reward({LIKED: 1.0, "left": -1.0}, window=seconds(3), default=0.0, closes_after=1),
    baseline=lambda context: WALLS[0],
    agent=Agent("neural_greedy", hidden=[16]),
    exploration=EpsilonGreedy(0.2, start=0.5, floor=0.02, decay=2_000),
    training=Training(every=seconds(1.0), buffer=20_000, batch=128, steps=20, seed=0),
    gate=Gate(margin=0.1),
    rollout=Rollout(holdout=0.2),
)


class Sprayers(BanditWorld):
    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        return {LAST: WALLS[rng.integers(3)], "hour": round(float(rng.uniform(0, 24)), 1)}

    def happenings(
        self, context: Context, action: str, rng: np.random.Generator
    ) -> list[Happening]:
        liked = rng.random() < 0.5 + self.expected_reward(context, action) / 2
        return [Happening(float(rng.uniform(0.1, 1.0)), LIKED if liked else "left")]

    def expected_reward(self, context: Context, action: str) -> float:
        return 0.7 if context[LAST] == action else -0.3


world = Sprayers()
