"""shop_shelf is no pushover, and its world says the truth about itself."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from bakehouse.examples.shop_shelf import SEEN, WANTED, application, world
from bakehouse_schemas.application.reward import DecisionTimes, TimedOutcome
from bakehouse_schemas.events.checks import check_outcome
from bakehouse_schemas.events.events import OutcomeRequest
from bakehouse_schemas.ids import uuid7


def visits(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    contexts = [world.context(rng) for _ in range(count)]
    return [{**context, "items": world.items(context, rng)} for context in contexts]


def ranked(context: dict[str, Any], order: Callable[[Any], float]) -> list[str]:
    return [item["id"] for item in sorted(context["items"], key=order)[:4]]


def test_no_order_that_is_the_same_for_all_comes_near_the_best() -> None:
    rng, found = np.random.default_rng(1), visits(1_000)
    best = np.mean([world.expected_reward(c, world.best_action(c)) for c in found])
    chance = np.mean(
        [
            world.expected_reward(c, ranked(c, lambda _: rng.random()))
            for c in found
            for _ in "12345"
        ]
    )
    earned = {
        "today's order, by what sold": [application.baseline_action(c, c["items"]) for c in found],
        "cheap first": [ranked(c, lambda item: item["price"]) for c in found],
        "dear first": [ranked(c, lambda item: -item["price"]) for c in found],
        "discounts first": [ranked(c, lambda item: -item["discount"]) for c in found],
        "rare first": [ranked(c, lambda item: -item["rarity"]) for c in found],
    }
    shares = {
        name: (np.mean(list(map(world.expected_reward, found, lists))) - chance) / (best - chance)
        for name, lists in earned.items()
    }
    assert max(shares.values()) <= 0.15, shares
    # what looks at one thing of the player's goes half of the way
    wanted = [
        ranked(c, lambda item, c=c: -WANTED[c["plays"]][item["category"]])  # type: ignore[misc]
        for c in found
    ]
    earned_so = np.mean(list(map(world.expected_reward, found, wanted)))
    assert (earned_so - chance) / (best - chance) <= 0.65


def test_the_best_shelf_is_the_best_of_all() -> None:
    for context in visits(4, seed=2):
        context["items"] = context["items"][:6]
        ids = [item["id"] for item in context["items"]]
        most = max(world.expected_reward(context, list(p)) for p in permutations(ids, 4))
        assert world.expected_reward(context, world.best_action(context)) == pytest.approx(most)


def test_expected_rewards_are_the_means_of_what_the_reward_rule_says() -> None:
    rng, reward = np.random.default_rng(3), application.reward
    for context in visits(4, seed=4):
        shown = world.best_action(context)
        drawn = []
        for _ in range(3_000):
            outcomes = [
                TimedOutcome(str(n), "reward", h.name, h.value, at, at)
                for n, h in enumerate(world.happenings(context, shown, rng))
                for at in [round(h.after_s * 1000)]
            ]
            drawn.append(reward.value(reward.counted(DecisionTimes(0, 0), outcomes)))
        error = max(float(np.std(drawn)), 0.05) / 3_000**0.5
        assert abs(np.mean(drawn) - world.expected_reward(context, shown)) < 5 * error


def test_the_first_places_are_seen_most_and_nobody_buys_on_credit() -> None:
    assert list(SEEN) == sorted(SEEN, reverse=True)
    for context in visits(50, seed=5):
        for item in context["items"]:
            if item["price"] > context["wallet"]:
                assert world.chance(context, item) == 0.0


def test_purchases_occur_within_the_window_and_pass_the_door() -> None:
    rng, window_s = np.random.default_rng(6), application.reward.window.total_seconds()
    seen = 0
    for context in visits(300, seed=7):
        application.encoder.encode(context)
        application.actions.encode_items(context["items"])  # type: ignore[union-attr]
        assert application.actions.problem_with_items(context["items"]) is None  # type: ignore[union-attr]
        for happening in world.happenings(context, world.best_action(context), rng):
            seen += 1
            assert 0 < happening.after_s < window_s
            outcome = OutcomeRequest(
                decision_id=uuid7(), name=happening.name, value=happening.value
            )
            check_outcome(application, outcome)
    assert seen > 50
    assert world.delivery.late_by_s > window_s
    assert 0 < world.delivery.loss <= 0.02
