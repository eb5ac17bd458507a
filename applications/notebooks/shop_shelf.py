"""Source of shop_shelf.ipynb; see make.py."""

# %% [markdown]
# # shop_shelf: which of the shop's offers does this player see first?
#
# Offers come with the request, each with what is known of it; a shelf has room for a few of them,
# and the first place is seen far more often than the last. Today's order is the same for everyone.
# The page promises that within 20,000 decisions its agent knows which offers suit whom, to a share
# of 0.85 of what could be had.

# %%
from collections import Counter
from typing import Any

import matplotlib.pyplot as plt

from applications.notebooks.look import (
    answers,
    learn,
    players,
    plot_curve,
    print_result,
    print_standing,
)
from applications.shop_shelf import application, world

print_standing(application, world)

# %% [markdown]
# No order suits everybody. It learns:

# %%
result = learn(application, world, decisions=20_000)
print_result(result)

# %% [markdown]
# What it has learned: which kind of offer comes first now, and came first before.

# %%
contexts = players(world, 500, seed=1, ranks=True)


def first_category(context: dict[str, Any], shelf: list[str]) -> str:
    """Category of the offer in the first place."""
    return str(next(item["category"] for item in context["items"] if item["id"] == shelf[0]))


shelves = answers(result, application, contexts)
now = Counter(first_category(c, shelf) for c, shelf in zip(contexts, shelves, strict=True))
rules = Counter(first_category(c, application.baseline_action(c, c["items"])) for c in contexts)
figure, (curve, first) = plt.subplots(1, 2, figsize=(9, 2.8))
plot_curve(curve, result)
kinds = sorted(now | rules)
first.barh([at - 0.2 for at in range(len(kinds))], [now[k] for k in kinds], 0.4, label="learned")
first.barh([at + 0.2 for at in range(len(kinds))], [rules[k] for k in kinds], 0.4, label="rules")
first.set_yticks(range(len(kinds)), kinds)
first.set(title="first place goes to", xlabel="players of 500")
first.legend(fontsize=8)
figure.tight_layout()
