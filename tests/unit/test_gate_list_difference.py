"""What lists would earn against other lists, by a model of items and places."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bakehouse_learner.ope.ranking_difference import ranking_difference

SEEN = np.array([0.6, 0.3, 0.1])


def lists(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contexts `[n, 2]`, items `[n, 6, 2]`, and what each item is worth `[n, 6]`."""
    observation = rng.uniform(-1, 1, (n, 2))
    items = rng.uniform(-1, 1, (n, 6, 2))
    return observation, items, 0.5 + (items @ observation[:, :, None])[:, :, 0]


def earned(worth: np.ndarray, places: np.ndarray) -> np.ndarray:
    there = np.take_along_axis(worth, np.maximum(places, 0), axis=1) * (places >= 0)
    return np.asarray(there @ SEEN)


def estimate(seed: int, n: int = 800, *, noise: float = 0.5) -> tuple[float, float, float, float]:
    """The true difference of the best lists to the first items', and its estimate."""
    rng = np.random.default_rng(seed)
    observation, items, worth = lists(rng, n)
    shown = np.argsort(rng.random((n, 6)), axis=1)[:, :3]
    best = np.argsort(-worth, axis=1)[:, :3]
    first = np.tile([0, 1, 2], (n, 1))
    found = ranking_difference(
        observation,
        items,
        shown,
        earned(worth, shown) + rng.normal(0, noise, n),
        candidate=best,
        baseline=first,
        confidence=0.95,
    )
    true = float((earned(worth, best) - earned(worth, first)).mean())
    return true, found.mean, found.lower, found.upper


def test_the_difference_is_found_from_lists_that_were_shown_at_random() -> None:
    true, mean, lower, upper = estimate(0)
    assert mean == pytest.approx(true, abs=0.06)
    assert 0 < lower < true < upper


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = [lower <= true <= upper for true, _, lower, upper in map(estimate, range(60))]
    assert sum(covered) >= 52


def test_the_same_lists_differ_by_nothing_and_have_no_bounds() -> None:
    rng = np.random.default_rng(1)
    observation, items, worth = lists(rng, 400)
    shown = np.argsort(rng.random((400, 6)), axis=1)[:, :3]
    found = ranking_difference(
        observation, items, shown, earned(worth, shown),
        candidate=shown, baseline=shown, confidence=0.95,
    )  # fmt: skip
    assert (found.mean, found.lower, found.upper) == (0.0, -math.inf, math.inf)


def test_an_empty_place_earns_nothing() -> None:
    rng = np.random.default_rng(2)
    observation, items, worth = lists(rng, 600)
    worth = np.ones_like(worth)
    shown = np.argsort(rng.random((600, 6)), axis=1)[:, :3]
    shown[::2, 1:] = -1
    short = np.full_like(shown, -1)
    short[:, 0] = 0
    found = ranking_difference(
        observation, items, shown, earned(worth, shown),
        candidate=np.tile([0, 1, 2], (600, 1)), baseline=short, confidence=0.95,
    )  # fmt: skip
    assert found.mean == pytest.approx(0.4, abs=0.05)  # what is seen of the second and third place


def test_fewer_decisions_than_the_model_has_terms_say_nothing() -> None:
    rng = np.random.default_rng(3)
    observation, items, worth = lists(rng, 9)
    shown = np.argsort(rng.random((9, 6)), axis=1)[:, :3]
    found = ranking_difference(
        observation, items, shown, earned(worth, shown),
        candidate=shown, baseline=shown, confidence=0.95,
    )  # fmt: skip
    assert (found.lower, found.upper, found.n) == (-np.inf, np.inf, 0)


def test_wide_contexts_are_left_out_and_the_items_still_tell() -> None:
    rng = np.random.default_rng(4)
    n = 800
    observation = rng.normal(size=(n, 300))
    items = rng.uniform(-1, 1, (n, 6, 2))
    worth = items[:, :, 0]
    shown = np.argsort(rng.random((n, 6)), axis=1)[:, :3]
    best, first = np.argsort(-worth, axis=1)[:, :3], np.tile([0, 1, 2], (n, 1))
    found = ranking_difference(
        observation, items, shown, earned(worth, shown) + rng.normal(0, 0.3, n),
        candidate=best, baseline=first, confidence=0.95,
    )  # fmt: skip
    assert found.lower > 0.3
