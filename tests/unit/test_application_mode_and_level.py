"""mode_and_level is no pushover: its three parts are decided together, or not well."""

from __future__ import annotations

import numpy as np
import pytest

from bakehouse.examples.mode_and_level import WORTH, application, world
from bakehouse_schemas.application.reward import DecisionTimes, TimedOutcome
from bakehouse_schemas.events.checks import check_outcome
from bakehouse_schemas.events.events import OutcomeRequest
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.worlds.world import Context

MODES = list(WORTH)
LEVELS, MINUTES = np.linspace(0, 1, 11), np.linspace(2, 14, 11)
PLAYERS = 250


@pytest.fixture(scope="module")
def players() -> list[Context]:
    rng = np.random.default_rng(0)
    return [world.context(rng) for _ in range(PLAYERS)]


@pytest.fixture(scope="module")
def q(players: list[Context]) -> np.ndarray:
    """Expected reward of a grid of actions. `[players, mode, level, minutes]`"""
    return np.array(
        [
            [
                [
                    [
                        world.expected_reward(
                            context, {"mode": mode, "level": [level], "minutes": [minutes]}
                        )
                        for minutes in MINUTES
                    ]
                    for level in LEVELS
                ]
                for mode in MODES
            ]
            for context in players
        ]
    )


def share(players: list[Context], q: np.ndarray, earned: float) -> float:
    """Of the way from any action alike to the best that the page says there is."""
    best = np.mean([world.expected_reward(c, world.best_action(c)) for c in players])
    return float((earned - q.mean()) / (best - q.mean()))


def test_the_best_action_is_the_best(players: list[Context], q: np.ndarray) -> None:
    best = [world.expected_reward(context, world.best_action(context)) for context in players]
    on_grid = q.max(axis=(1, 2, 3))
    assert np.all(np.array(best) >= on_grid - 1e-9)
    assert np.mean(best) - on_grid.mean() < 0.05
    modes = [world.best_action(context)["mode"] for context in players]
    assert min(modes.count(mode) for mode in ("race", "duel")) >= PLAYERS // 5


def test_no_constant_and_no_rule_of_today_comes_near(players: list[Context], q: np.ndarray) -> None:
    assert share(players, q, q.mean(axis=0).max()) <= 0.4
    rules = np.mean([world.expected_reward(c, application.baseline_action(c)) for c in players])
    assert share(players, q, float(rules)) <= 0.6


def test_deciding_each_part_by_itself_comes_no_nearer(
    players: list[Context], q: np.ndarray
) -> None:
    """Each part at its best for this very player, whatever the other parts may be."""
    everyone = np.arange(PLAYERS)
    mode = q.mean(axis=(2, 3)).argmax(axis=1)
    level = q.mean(axis=(1, 3)).argmax(axis=1)
    minutes = q.mean(axis=(1, 2)).argmax(axis=1)
    assert share(players, q, q[everyone, mode, level, minutes].mean()) <= 0.5
    # judged before its level is found, every other mode loses to the story
    assert np.mean(mode == MODES.index("story")) > 0.7


def test_one_part_that_is_the_same_for_all_spoils_the_others(
    players: list[Context], q: np.ndarray
) -> None:
    by_part = {
        "mode": q.max(axis=(2, 3)).mean(axis=0).max(),
        "level and minutes": q.max(axis=1).mean(axis=0).max(),
    }
    for part, earned in by_part.items():
        assert share(players, q, earned) <= 0.75, part


def test_expected_rewards_are_the_means_of_what_the_reward_rule_says() -> None:
    rng, rule = np.random.default_rng(3), application.reward
    times = DecisionTimes(0, 0)
    for _ in range(4):
        context = world.context(rng)
        action = world.best_action(context)
        drawn = []
        for _ in range(2_000):
            ms = [(h, round(h.after_s * 1000)) for h in world.happenings(context, action, rng)]
            outcomes = [
                TimedOutcome(str(n), "reward", h.name, h.value, at, at)
                for n, (h, at) in enumerate(ms)
            ]
            drawn.append(rule.value(rule.counted(times, outcomes)))
        error = max(float(np.std(drawn)), 0.05) / 2_000**0.5
        assert abs(np.mean(drawn) - world.expected_reward(context, action)) < 5 * error


def test_what_players_cause_is_in_time_and_passes_the_door() -> None:
    rng = np.random.default_rng(4)
    window_s = application.reward.window.total_seconds()
    for _ in range(500):
        context = world.context(rng)
        assert application.encoder.encode(context).shape == (application.encoder.size,)
        action = application.baseline_action(context)
        assert application.actions.problem_with(world.best_action(context)) is None
        for happening in world.happenings(context, action, rng):
            assert 0 < happening.after_s < window_s
            check_outcome(
                application,
                OutcomeRequest(decision_id=uuid7(), name=happening.name, value=happening.value),
            )


def test_some_messages_are_lost_repeated_and_later_than_their_window() -> None:
    delivery = world.delivery
    assert 0 < delivery.loss <= 0.02
    assert delivery.duplicates > 0
    assert delivery.late > 0
    assert delivery.late_by_s > application.reward.window.total_seconds()
