"""Source of level_difficulty.ipynb; see make.py."""

# %% [markdown]
# # level_difficulty: which difficulty should the next level have, for this player, now?
#
# Too easy and a strong player wanders off without a word; too hard and a tired one quits. The
# game's rules look at skill alone. The page promises that its agent also learns what losses in a
# row, a long evening and practice do to a player, and that silence is taken for what it is: bad.

# %%
import matplotlib.pyplot as plt
import numpy as np

from applications.level_difficulty import application, world
from applications.notebooks.look import (
    answers,
    best_answer,
    learn,
    players,
    plot_curve,
    print_result,
    print_standing,
)

print_standing(application, world)

# %% [markdown]
# Rules by skill are better than any constant, and leave half of what could be had. It learns:

# %%
result = learn(application, world, decisions=12_000)
print_result(result)

# %% [markdown]
# What it has learned: beside each other, the difficulty that it gives (0 easy, 1 normal, 2 hard)
# and the one that is best in this world, by skill and losses in a row.

# %%
labels = application.actions.choices
contexts = players(world, 6_000, seed=1)
given = np.array([labels.index(label) for label in answers(result, application, contexts)])
best = np.array([labels.index(best_answer(application, world, context)) for context in contexts])
skill = np.array([int(context["skill"] * 10) for context in contexts]).clip(0, 9)
losses = np.array([context["losses_in_a_row"] for context in contexts])

figure, (curve, learned, known) = plt.subplots(1, 3, figsize=(11, 2.8))
plot_curve(curve, result)
for axes, difficulty, title in ((learned, given, "learned"), (known, best, "best")):
    mean = np.array(
        [
            [difficulty[(skill == s) & (losses == lost)].mean() for s in range(10)]
            for lost in range(5)
        ]
    )
    axes.imshow(mean, origin="lower", aspect="auto", vmin=0, vmax=2, extent=(0, 1, -0.5, 4.5))
    axes.set(title=title, xlabel="skill", ylabel="losses in a row")
figure.tight_layout()
