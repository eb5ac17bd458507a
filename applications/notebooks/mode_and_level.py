"""Source of mode_and_level.ipynb; see make.py."""

# %% [markdown]
# # mode_and_level: which mode, how hard, and for how long?
#
# Three decisions at once: a label and two numbers. A race is best at the edge of what a player can
# do, a duel against somebody a little weaker, and a story never fails and never thrills. Judged
# before its level is found, every mode loses to the story. The page promises that within 25,000
# decisions its agent joins the three to a share of 0.85 of what could be had.

# %%
import matplotlib.pyplot as plt
import numpy as np

from applications.mode_and_level import application, world
from applications.notebooks.look import (
    answers,
    learn,
    players,
    plot_curve,
    print_result,
    print_standing,
)

print_standing(application, world)

# %% [markdown]
# No one answer is good for all, and neither are the game's rules, which look at skill alone. The
# agent is `ppo`: it draws each part, and learns how much to vary it.

# %%
result = learn(application, world, decisions=25_000)
print_result(result)

# %% [markdown]
# What it has learned, beside what is best for each player: the mode by who is online, the level by
# strength and mode, and shorter games for who has played all evening.

# %%
contexts = players(world, 600, seed=1)
told = answers(result, application, contexts)
best = [world.best_action(context) for context in contexts]
right = np.array([t["mode"] == b["mode"] for t, b in zip(told, best, strict=True)])
print(f"the best mode for {right.mean():.0%} of players")

figure, (curve, level, minutes) = plt.subplots(1, 3, figsize=(11, 3.0))
plot_curve(curve, result)
for axes, part in ((level, "level"), (minutes, "minutes")):
    for mode, colour in (("race", "tab:blue"), ("duel", "tab:orange")):
        pairs = [
            (b[part][0], t[part][0])
            for t, b in zip(told, best, strict=True)
            if t["mode"] == b["mode"] == mode
        ]
        axes.scatter(*np.reshape(pairs, (-1, 2)).T, s=5, color=colour, label=mode)
    axes.set(xlabel=f"best {part}", ylabel=f"{part} it answers")
    axes.axline((np.mean(axes.get_xlim()),) * 2, slope=1, color="grey", linewidth=0.8)
    axes.legend(fontsize=8)
figure.tight_layout()
