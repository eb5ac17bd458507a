"""Source of boss_health.ipynb; see make.py."""

# %% [markdown]
# # boss_health: how much health, and how hard a hit, should the next boss have?
#
# Two numbers, decided for each player anew. A fight is remembered when it is won with the last
# breath, and how long it may last and how much it may hurt differ for everybody. The game's rules
# look at the level alone. The page promises that its agent finds both numbers from what players
# do, and from nothing else.

# %%
import matplotlib.pyplot as plt
import numpy as np

from applications.boss_health import application, world
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
# No boss is right for everybody, and a boss for each level is little better. It learns:

# %%
result = learn(application, world, decisions=16_000)
print_result(result)

# %% [markdown]
# What it has learned, against what is best in this world, for players whom it has never met.

# %%
contexts = players(world, 600, seed=1)
given = np.array(answers(result, application, contexts))
best = np.array([world.best_action(context) for context in contexts])

figure, (curve, health, damage) = plt.subplots(1, 3, figsize=(11, 2.8))
plot_curve(curve, result)
for at, (axes, name) in enumerate(((health, "health"), (damage, "damage"))):
    axes.scatter(best[:, at], given[:, at], s=4)
    ends = [best[:, at].min(), best[:, at].max()]
    axes.plot(ends, ends, color="grey", linewidth=0.8)
    axes.set(title=name, xlabel="best", ylabel="learned")
figure.tight_layout()
off = np.abs(given - best).mean(axis=0)
print(f"off by {off[0]:.0f} health and {off[1]:.1f} damage on average")
