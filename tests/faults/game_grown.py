"""The game of `game.py` after a season: the same application under another contract.

A label more, a bound moved, twice the buckets, and a feature that older clients do not send.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bakehouse import Boolean, Categorical, Discrete, Numeric
from tests.faults import game

REF = str(Path(__file__).resolve())
ADDED = "extreme"
application = replace(
    game.application,
    observation=[
        Numeric("skill", low=0, high=1),
        Numeric("losses", low=0, high=20),
        Categorical("segment", values=list(game.SEGMENTS)),
        Categorical("country", buckets=16, default="DE"),
        Boolean("tablet", default=False),
    ],
    actions=Discrete(*game.ACTIONS, ADDED),
)
