"""Source of quest_chain.ipynb; see make.py."""

# %% [markdown]
# # quest_chain: which quest comes next, when the best quest now spoils the best story later?
#
# Treasure pleases at once; a story pleases nobody today, but makes the companion a friend, then an
# ally; and a trial, won beside an ally, is what people remember. A policy that looks at the next
# reward alone opens chests for ever. The page promises that its agent learns to tell stories first.

# %%
import matplotlib.pyplot as plt
import numpy as np

from applications.notebooks.look import (
    answers,
    learn,
    players,
    plot_curve,
    print_result,
    print_standing,
)
from applications.quest_chain import BONDS, CHAPTERS, STYLES, application, world

print_standing(application, world)

# %% [markdown]
# These are returns of whole quest lines. It learns:

# %%
result = learn(application, world, decisions=20_000)
print_result(result)

# %% [markdown]
# What it has learned: the quest in each chapter, by bond with the companion.

# %%
labels = application.actions.choices
contexts = players(world)
given = dict(zip(world.states, answers(result, application, contexts), strict=True))

figure, (curve, *tables) = plt.subplots(1, 3, figsize=(11, 2.8))
plot_curve(curve, result)
for axes, style in zip(tables, STYLES, strict=True):
    quests = np.array(
        [[labels.index(given[chapter, bond, style]) for chapter in CHAPTERS] for bond in BONDS]
    )
    axes.imshow(quests, origin="lower", aspect="auto", vmin=0, vmax=2, cmap="Pastel1")
    for (bond, chapter), quest in np.ndenumerate(quests):
        axes.text(chapter, bond, labels[quest], ha="center", va="center", fontsize=8)
    axes.set_xticks(range(4), CHAPTERS)
    axes.set_yticks(range(3), BONDS)
    axes.set_title(style)
figure.tight_layout()
