"""The game's rules are as good as can be, and there is nothing to do but to follow them.

The world of `crossed`, with rules that know its secret. For agents that imitate: what they learn
is what the rules do, which here is no constant and nothing linear.
"""

from dataclasses import replace

from bakehouse import Agent, Context, EpsilonGreedy, Gate
from tests.worlds import crossed


def knowing(context: Context) -> str:
    """The rules: same where both traits are high or both are low."""
    return "same" if context["boldness"] * context["patience"] > 0 else "opposite"


application = replace(
    crossed.application,
    name="footsteps",
    agent=Agent("bc", hidden=[64, 64]),
    baseline=knowing,
    # What is imitated is what was done, exploration included: with much of it, the copy is worse
    # than the rules by as much, and the next copy, which explores on top, worse again.
    exploration=EpsilonGreedy(0.05, floor=0.01),
    gate=Gate(margin=0.3),  # nothing can be better here, and what first candidates cost counts
)
world = crossed.Strangers()
