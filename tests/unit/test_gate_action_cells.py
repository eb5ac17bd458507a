"""Cells of actions: what lets an episode of numbers or parts leave version 0 by an estimate."""

from __future__ import annotations

import numpy as np

from learner.action_cells import ActionCells
from schemas.actions import Continuous, Discrete, Parts
from schemas.exploration import NONE, Exploration
from schemas.propensity import Own

PARTS = Parts({"mode": Discrete("x", "y"), "level": Continuous(low=0, high=10)}).shape


def test_labels_part_cells_and_numbers_part_them_further() -> None:
    rows = np.array([[0, 1.0], [0, 9.0], [1, 1.0], [1, 9.0]])
    cells = ActionCells(PARTS, rows)
    assert len(cells) == 4
    assert len(set(cells.of(rows).tolist())) == 4
    near = cells.of(np.array([[0, 2.0], [0, 7.0], [1, 0.0], [1, 10.0]]))
    assert near.tolist() == cells.of(rows).tolist()


def test_there_are_no_more_cells_than_asked_for_and_they_cover_what_was_logged() -> None:
    rng = np.random.default_rng(0)
    rows = np.stack([rng.integers(0, 2, 2_000).astype(float), rng.uniform(0, 10, 2_000)], axis=1)
    cells = ActionCells(PARTS, rows, most=10)
    assert len(cells) == 10
    of = cells.of(rows)
    for cell in range(10):
        inside = rows[of == cell]
        assert len(set(inside[:, 0])) == 1  # no cell mixes labels
        assert np.ptp(inside[:, 1]) < 4.5


def test_a_policy_has_its_mass_where_it_acts() -> None:
    cells = ActionCells(PARTS, np.array([[0, 1.0], [0, 9.0], [1, 1.0], [1, 9.0]]))
    wide = np.full((500, 1), 2.0)
    own = Own(np.tile([0.25, 0.75], (500, 1)), 0.0 * wide, wide, squashed=True)
    masses = cells.masses(own, NONE, np.random.default_rng(1))
    np.testing.assert_allclose(masses.sum(axis=1), 1.0)
    at = cells.of(np.array([[0, 1.0], [0, 9.0], [1, 1.0], [1, 9.0]]))
    np.testing.assert_allclose(masses.mean(axis=0)[at], [0.125, 0.125, 0.375, 0.375], atol=0.03)


def test_the_spread_of_exploration_counts_where_it_stands_in_for_the_policys_own() -> None:
    shape = Continuous(low=0, high=1).shape
    cells = ActionCells(shape, np.array([[0.0], [1.0]]))
    own = Own(np.ones((500, 1)), np.full((500, 1), 0.4), np.zeros((500, 1)))
    low = cells.of(np.array([[0.0]]))[0]
    sure = cells.masses(own, NONE, np.random.default_rng(2))
    assert sure[:, low].mean() == 1.0
    spread = Exploration(kind="gaussian", std=0.5)
    found = cells.masses(own, spread, np.random.default_rng(2))[:, low].mean()
    assert 0.5 < found < 0.65  # a normal of mean 0.4 and deviation 0.5 is below 0.5 in 0.58
