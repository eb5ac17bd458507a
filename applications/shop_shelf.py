"""Which four of the shop's offers does this player see, and in which order?

Today the shop shows what sold most. That is what everybody sees first, so it goes on selling most,
whoever looks. What a player buys depends on their wallet, on what they play, and on what they were
offered beside it; whoever is shown a thing first looks at it, the fourth hardly anyone does. Run it
with `bakehouse demo --application applications/shop_shelf.py`, read it from top to bottom.
"""

from math import exp
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
    EpsilonGreedy,
    Gate,
    Happening,
    Numeric,
    Ranking,
    Reward,
    Rollout,
    Training,
    seconds,
)

CATEGORIES = ["armour", "pets", "potions", "skins"]
PLAYS = ["raids", "duels", "building"]
MOST = 12  # offers of one day

application = Application(
    name="shop-shelf",
    observation=[
        Numeric("wallet", low=0, high=10),  # hundreds of coins
        Numeric("level", low=0, high=60),
        Numeric("days_since_purchase", low=0, high=30),
        Categorical("plays", values=PLAYS),
    ],
    actions=Ranking(
        k=4,
        item=[
            Categorical("category", values=CATEGORIES),
            Numeric("price", low=0, high=10),  # hundreds of coins, the discount taken off
            Numeric("discount", low=0, high=0.6),
            Numeric("rarity", low=0, high=1),
            Numeric("sold_yesterday", low=0, high=1),  # of the whole shop's sales, relative
        ],
        most_items=MOST,
    ),
    problem=Bandit(),
    # What was spent, in hundreds of coins, within a visit. Most visits end without a purchase.
    reward=Reward({"purchase": 1.0}, window=seconds(8), default=0.0),
    # The shop's order today: by what sold most.
    baseline=lambda context: [
        item["id"]
        for item in sorted(context["items"], key=lambda item: -float(item["sold_yesterday"]))[:4]
    ],
    agent=Agent("rank", hidden=[64, 64]),
    exploration=EpsilonGreedy(0.1, start=0.6, floor=0.005, decay=6_000),
    training=Training(every=seconds(0.5), buffer=50_000, batch=256, steps=20, seed=0),
    gate=Gate(confidence=0.95, margin=0.1),
    rollout=Rollout(holdout=0.10),
)


# Below: simulated players, of whom everything is known, so that a policy can be judged exactly.

SEEN = (0.95, 0.60, 0.35, 0.20)  # how often each place is looked at
WANTED = {  # by who plays what
    "raids": {"armour": 2.0, "potions": 0.5, "pets": -1.5, "skins": -1.0},
    "duels": {"armour": -1.0, "potions": 1.5, "pets": -1.0, "skins": 0.5},
    "building": {"armour": -1.5, "potions": -1.0, "pets": 1.5, "skins": 1.0},
}


class Players(BanditWorld):
    # 1 in 100 purchases never arrives, 1 in 50 arrives twice, and 1 in 50 when the visit is over.
    delivery = Delivery(loss=0.01, duplicates=0.02, late=0.02, late_by_s=9.0)

    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        return {
            "wallet": round(float(min(rng.gamma(1.5, 2.0), 10.0)), 2),
            "level": int(rng.integers(1, 61)),
            "days_since_purchase": int(min(rng.geometric(0.12) - 1, 30)),
            "plays": PLAYS[rng.integers(3)],
        }

    def items(self, _context: Context, rng: np.random.Generator) -> list[dict[str, Any]]:
        offers = []
        for at in range(rng.integers(8, MOST + 1)):
            rarity = float(rng.beta(1.2, 2.0))
            discount = float(rng.choice([0.0, 0.0, 0.2, 0.4]))
            price = min((0.4 + 7.0 * rarity * rng.uniform(0.6, 1.2)) * (1 - discount), 10.0)
            # cheap things sell in numbers, whatever they bring
            sold = exp(-0.5 * price) * rng.uniform(0.5, 1.0)
            offers.append(
                {
                    "id": f"offer-{at}-{rng.integers(1_000_000)}",
                    "category": CATEGORIES[rng.integers(4)],
                    "price": round(float(price), 2),
                    "discount": discount,
                    "rarity": round(rarity, 3),
                    "sold_yesterday": round(float(sold), 3),
                }
            )
        return offers

    def chance(self, context: Context, item: Any) -> float:
        """Of a purchase, once the offer is looked at."""
        left = context["wallet"] - item["price"]
        if left < 0:
            return 0.0  # nobody buys on credit
        pull = (
            WANTED[context["plays"]][item["category"]]
            + 3.0 * (item["rarity"] - 0.5) * (context["level"] - 30) / 30  # rare is for veterans
            + 2.5 * item["discount"] * (1 if context["days_since_purchase"] > 7 else 0.2)
            - 1.6 * item["price"] / max(context["wallet"], 0.1)
        )
        return 0.6 / (1 + exp(-pull + 0.5))

    def chances(self, context: Context, action: list[str]) -> list[tuple[float, float]]:
        """Of each place: the chance of a purchase, and its price."""
        by_id = {item["id"]: item for item in context["items"]}
        return [
            (seen * self.chance(context, by_id[one]), float(by_id[one]["price"]))
            for seen, one in zip(SEEN, action, strict=False)
        ]

    def happenings(
        self, context: Context, action: Any, rng: np.random.Generator
    ) -> list[Happening]:
        return [
            Happening(float(rng.uniform(0.3, 2.0) + 0.5 * place), "purchase", price)
            for place, (chance, price) in enumerate(self.chances(context, action))
            if rng.random() < chance
        ]

    def expected_reward(self, context: Context, action: Any) -> float:
        # Exact: purchases do not depend on each other, and every delay is within the window.
        return sum(chance * price for chance, price in self.chances(context, action))

    def best_action(self, context: Context) -> list[str]:
        brings = {
            item["id"]: self.chance(context, item) * item["price"] for item in context["items"]
        }
        return sorted(brings, key=lambda one: -brings[one])[:4]


world = Players()
