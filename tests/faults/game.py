"""The game that is played while things break: an application of ordinary size.

The rules are poor and the gate's margin is wide, so that policies are learned and swapped from the
first minute on: what is proved here is that nothing is lost, not that the policy is good.
"""

from __future__ import annotations

from pathlib import Path

from bakehouse import (
    Agent,
    Application,
    Categorical,
    Context,
    Discrete,
    EpsilonGreedy,
    Gate,
    Numeric,
    Reward,
    Rollout,
    Training,
    seconds,
)

REF = str(Path(__file__).resolve())
ACTIONS = ("easy", "normal", "hard")
SEGMENTS = ("new", "regular", "veteran")
COUNTRIES = ("BR", "DE", "IN", "JP", "US")
WINDOW_S = 4.0


def rules(context: Context) -> str:
    """The game's rules: easy for everybody, though the skilled leave when it is."""
    return ACTIONS[0]


def wins(context: Context, action: str) -> bool:
    """What players make of it; nobody wins what `game_grown.py` adds."""
    if action not in ACTIONS:
        return False
    return action == "hard" if context["skill"] > 0.5 else action != "hard"


application = Application(
    name="faults",
    observation=[
        Numeric("skill", low=0, high=1),
        Numeric("losses", low=0, high=10),
        Categorical("segment", values=list(SEGMENTS)),
        Categorical("country", buckets=8, default="DE"),
    ],
    actions=Discrete(*ACTIONS),
    reward=Reward({"won": 1.0, "left": -0.5}, window=seconds(WINDOW_S), default=0.0),
    baseline=rules,
    agent=Agent("neural_greedy", hidden=[32]),
    exploration=EpsilonGreedy(0.2, start=0.5, floor=0.01),
    training=Training(every=seconds(0.5), buffer=50_000, batch=64, steps=20, seed=0),
    gate=Gate(margin=1.0),
    rollout=Rollout(holdout=0.10),
)
