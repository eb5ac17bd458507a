"""A second, small application that a serving process knows before stream does."""

from __future__ import annotations

from pathlib import Path

from bakehouse import Application, Context, Discrete, Numeric, Reward, seconds

REF = str(Path(__file__).resolve())


def rules(context: Context) -> str:
    """The game's rules."""
    return "sword"


application = Application(
    name="faults-beside",
    observation=[Numeric("gold", low=0, high=100)],
    actions=Discrete("sword", "shield"),
    reward=Reward({"bought": 1.0}, window=seconds(4)),
    baseline=rules,
)
