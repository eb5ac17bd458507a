"""A second application, which changes its name: serving reads it before stream does."""

from __future__ import annotations

from pathlib import Path

SOONER, LATER = "faults-sooner", "faults-later"

PAGE = """from bakehouse import Agent, Application, Discrete, Numeric, Reward, seconds

application = Application(
    name="{name}",
    observation=[Numeric("skill", low=0, high=1)],
    actions=Discrete("slow", "fast"),
    reward=Reward({{"won": 1.0}}, window=seconds(4)),
    baseline=lambda context: "slow",
    agent=Agent("lin_ts"),
)
"""


def write_growing(scratch: Path, name: str) -> str:
    """Write it under this name; returns how a person names it."""
    path = scratch / "growing.py"
    path.write_text(PAGE.format(name=name))
    return str(path)
