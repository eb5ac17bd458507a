"""The worlds of numbers: nothing that is too simple passes, and what is said of them is so."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from bakehouse_schemas.worlds.share import Logged, share, world_values
from bakehouse_schemas.worlds.world import BanditWorld, EpisodicWorld, Happening
from tests.worlds import WORLDS, Exam

OF_NUMBERS = [exam for exam in WORLDS if exam.application.shape.kind == "continuous"]
every_world = pytest.mark.parametrize("exam", OF_NUMBERS, ids=lambda exam: exam.module)
MANY = 1 << 40  # decisions: exploration has come to its final value
ENOUGH = 0.5  # of the way to the best: "near" begins here


def contexts_of(exam: Exam, *, count: int = 150) -> list[dict[str, Any]]:
    rng, world = np.random.default_rng(0), exam.world
    if isinstance(world, EpisodicWorld):
        return [world.context(state, rng) for state in world.states]
    return [world.context(rng) for _ in range(count)]


def constants(exam: Exam) -> list[list[float]]:
    """Numbers all over the box, the same for everybody."""
    low, high = exam.application.shape.low, exam.application.shape.high
    axes = [np.linspace(least, most, 5) for least, most in zip(low, high, strict=True)]
    return [[float(number) for number in point] for point in itertools.product(*axes)]


@every_world
def test_no_constant_and_no_myopic_policy_comes_near_the_best(exam: Exam) -> None:
    application, one = exam.application, np.ones(1, dtype=bool)
    final, contexts = application.exploration.after(MANY), contexts_of(exam)
    for numbers in constants(exam):
        made = [Logged(context, one * 1.0, one, final, numbers) for context in contexts]
        values = world_values(exam.world, application, made)
        assert (share(values) or 0.0) < ENOUGH
        assert (share(values, of="baseline") or 0.0) < ENOUGH
        if isinstance(exam.world, EpisodicWorld):
            assert (share(values, of="myopic") or 0.0) < ENOUGH


@every_world
def test_expected_rewards_are_what_players_cause_on_average(exam: Exam) -> None:
    """Before delivery, which loses a little: 4 standard errors of 1,000 players."""
    world, rng, weights = exam.world, np.random.default_rng(1), exam.application.reward.weights
    assert isinstance(weights, dict)

    def worth(caused: list[Happening]) -> float:
        return sum(weights[h.name] * (1.0 if h.value is None else h.value) for h in caused)

    for numbers in constants(exam):
        if isinstance(world, EpisodicWorld):
            for state in world.states:
                for way in world.transitions(state, numbers):
                    assert worth(world.happenings(state, numbers, way, rng)) == pytest.approx(
                        way.reward
                    )
            continue
        for context in contexts_of(exam, count=2):
            found = [worth(world.happenings(context, numbers, rng)) for _ in range(1_000)]
            error = float(np.std(found)) / np.sqrt(1_000) + 1e-9
            assert abs(np.mean(found) - world.expected_reward(context, numbers)) < 4 * error


@every_world
def test_what_is_called_the_best_number_earns_most(exam: Exam) -> None:
    world = exam.world
    if not isinstance(world, BanditWorld):
        assert len(world.grid()) >= 51  # the best is found by trying
        return
    for context in contexts_of(exam, count=50):
        best = world.expected_reward(context, world.best_action(context))
        assert all(world.expected_reward(context, numbers) <= best for numbers in constants(exam))
