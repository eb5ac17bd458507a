"""The game's rules are as good as can be, and there is nothing to do but to follow them.

The world of `crossed`, with rules that know its secret. For agents that imitate: what they learn
is what the rules do, which here is no constant and nothing linear.
"""

from dataclasses import replace

from bakehouse import Agent, Context, EpsilonGreedy
from tests.worlds import crossed


def knowing(context: Context) -> str:
    """The rules: same where both traits are high or both are low."""
    return "same" if context["boldness"] * context["patience"] > 0 else "opposite"


application = replace(
    crossed.application,
    name="footsteps",
    agent=Agent("bc", hidden=[64, 64]),
    baseline=knowing,
    exploration=EpsilonGreedy(0.1, start=0.5, floor=0.01, decay=3_000),
)
world = crossed.Strangers()
