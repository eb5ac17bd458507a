"""At which hour does the daily message reach this player?

One message a day, 24 hours to choose from, and two weeks of history. The obvious answers lose: at
the hour that a player opens the game most, they are there already; the hour that suits a time zone
suits few of its people; and who is drifting away no longer comes at the old hours at all. Run it
with `bakehouse demo --application applications/message_hour.py`, read it from top to bottom.
"""

from typing import Any

import numpy as np

from bakehouse import (
    Agent,
    Application,
    Bandit,
    BanditWorld,
    Categorical,
    Context,
    Delivery,
    Discrete,
    EpsilonGreedy,
    Gate,
    Happening,
    Reward,
    Rollout,
    Segments,
    Training,
    Vector,
    seconds,
)

HOURS = [f"h{hour:02}" for hour in range(24)]  # UTC, as the server sends
AHEAD_OF_UTC = {"americas": -6, "europe": 1, "india": 5, "japan": 9}  # hours
DAYS = 14

application = Application(
    name="message-hour",
    observation=[
        Vector("opens_by_hour", length=24, low=0, high=0.3),  # share of two weeks' opens, UTC
        Vector("sessions_by_day", length=DAYS, low=0, high=6),  # the last is yesterday
        Categorical("timezone", values=list(AHEAD_OF_UTC)),
    ],
    actions=Discrete(*HOURS),
    problem=Bandit(),
    # A day is 8 seconds here, so that a demo shows many. Who has not clicked by then will not.
    reward=Reward({"click": 1.0}, window=seconds(8), default=0.0, closes_after=1),
    # The game's rules today: early evening, wherever you are.
    baseline=Segments(
        "timezone",
        {"americas": "h00", "europe": "h17", "india": "h13", "japan": "h09"},
        default="h17",
    ),
    agent=Agent("neural_greedy", hidden=[128], learning_rate=0.001),
    # 24 hours to try: longer than for three actions, and a floor that 24 of them leave room for
    exploration=EpsilonGreedy(0.1, start=0.8, floor=0.002, decay=12_000),
    training=Training(every=seconds(0.5), buffer=50_000, batch=256, steps=40, seed=0),
    gate=Gate(confidence=0.95, margin=0.1),
    rollout=Rollout(holdout=0.10),
)


# Below: simulated players, of whom everything is known, so that a policy can be judged exactly.

HABITS = [7, 12, 18, 21]  # local hours at which people begin to play: commute, lunch, evening, bed
VISIT = [0.45, 0.35, 0.20]  # and how a visit spreads over the hours from then on
BREAKFAST = {7: 0.6, 8: 1.0, 9: 0.6}  # local hours


class Players(BanditWorld):
    # 1 in 100 clicks never arrives, 1 in 50 arrives twice, and 1 in 50 after its day is over.
    delivery = Delivery(loss=0.01, duplicates=0.02, late=0.02, late_by_s=9.0)

    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        zone = list(AHEAD_OF_UTC)[rng.integers(len(AHEAD_OF_UTC))]
        rhythm = np.full(24, 0.004)
        for weight in (0.7, 0.3):  # a first habit and a second
            begins = HABITS[rng.integers(4)] + rng.integers(-2, 3) - AHEAD_OF_UTC[zone]
            for after, share in enumerate(VISIT):
                rhythm[(begins + after) % 24] += weight * share
        opens = rng.multinomial(rng.integers(14, 57), rhythm / rhythm.sum())
        fading = rng.choice([0.0, 0.0, 0.0, 0.2, 0.5])  # less every day, by this share
        by_day = (1 - fading) ** np.arange(DAYS)
        sessions = rng.multinomial(opens.sum(), by_day / by_day.sum())
        return {
            "opens_by_hour": [round(float(share), 3) for share in opens / opens.sum()],
            "sessions_by_day": [int(min(count, 6)) for count in sessions],
            "timezone": zone,
        }

    def chance(self, context: Context, action: str) -> float:
        """Of a click, when the message is sent at this hour."""
        hour, opens = HOURS.index(action), context["opens_by_hour"]
        soon = opens[(hour + 1) % 24] + 0.6 * opens[(hour + 2) % 24]  # it is on top when they come
        there = opens[hour]  # who is there already has no need of it
        alive = min(1.0, sum(context["sessions_by_day"][-4:]) / 4)  # a session a day, lately
        local = (hour + AHEAD_OF_UTC[context["timezone"]]) % 24
        habit = 1.3 * alive * max(0.0, soon - 1.2 * there)
        lost = 0.5 * (1 - alive) * BREAKFAST.get(local, 0.0)  # the old habits are gone
        return float(min(0.03 + habit + lost, 0.95))

    def happenings(
        self, context: Context, action: str, rng: np.random.Generator
    ) -> list[Happening]:
        if rng.random() >= self.chance(context, action):
            return []
        return [Happening(float(rng.uniform(0.2, 5.0)), "click")]

    def expected_reward(self, context: Context, action: str) -> float:
        return self.chance(context, action)  # every click is within its day


world = Players()
