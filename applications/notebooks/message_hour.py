"""Source of message_hour.ipynb; see make.py."""

# %% [markdown]
# # message_hour: at which hour does the daily message reach this player?
#
# One message a day, 24 hours to choose from, two weeks of history. At the hour at which a player
# opens the game most, a message is of no use, and the hour that suits a time zone suits few of its
# people. The page promises that within 25,000 decisions its agent finds each player's own hour, to
# a share of 0.85 of what could be had.

# %%
import matplotlib.pyplot as plt
import numpy as np

from applications.message_hour import AHEAD_OF_UTC, HOURS, application, world
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
# No hour is good for all, and neither is the game's rule by time zone. It learns:

# %%
result = learn(application, world, decisions=25_000)
print_result(result)

# %% [markdown]
# What it has learned: for who plays these days, the hour before they usually begin; for who has
# drifted away, breakfast time where they live, whatever their old habits were.

# %%
contexts = players(world, 3_000, seed=1)
sent = np.array([HOURS.index(label) for label in answers(result, application, contexts)])
busiest = np.array([int(np.argmax(context["opens_by_hour"])) for context in contexts])
ahead = np.array([AHEAD_OF_UTC[context["timezone"]] for context in contexts])
lately = np.array([sum(context["sessions_by_day"][-4:]) for context in contexts])

figure, (curve, playing, gone) = plt.subplots(1, 3, figsize=(11, 2.8))
plot_curve(curve, result)
after = (sent - busiest + 12) % 24 - 12
playing.hist(after[lately >= 4], bins=np.arange(-12.5, 12.5))
playing.set(title="who plays: hours after their busiest", xlabel="hours")
gone.hist((sent + ahead)[lately == 0] % 24, bins=np.arange(-0.5, 24.5))
gone.set(title="who has drifted away: local hour", xlabel="hour")
figure.tight_layout()
