"""The draw follows what is logged, for numbers, parts and rankings as for labels."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bakehouse_schemas.application.actions import Continuous, Discrete, Parts
from bakehouse_schemas.application.exploration import NONE, Exploration
from bakehouse_schemas.application.shape import Shape, shape_from
from bakehouse_schemas.execution.base_policy import BasePolicy, baseline_policy, most_likely
from bakehouse_schemas.execution.logged_density import base_policy_from_density, logged_density
from bakehouse_schemas.execution.propensity import draws_from, execute, propensities
from tests.shapes import SPACES, Case, cases

KINDS = sorted(SPACES)
every_kind = pytest.mark.parametrize("kind", KINDS)
EPSILON = Exploration(kind="epsilon_greedy", epsilon=0.2, floor=0.01)
BOX = Continuous(low=-2.0, high=6.0).shape


def numbers(mean: float, std: float, *, squashed: bool = False) -> BasePolicy:
    return BasePolicy(np.ones((1, 1)), np.array([[mean]]), np.array([[std]]), squashed)


def worths(*values: float) -> BasePolicy:
    nothing = np.zeros((1, 0))
    return BasePolicy(np.array([values]) / sum(values), nothing, nothing)


def ranking(choices: int, slots: int) -> Shape:
    return Shape("ranking", choices, (), np.zeros(0), np.zeros(0), slots, 1)


@every_kind
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_executed_action_has_the_propensity_that_was_logged(
    kind: str, data: st.DataObject
) -> None:
    case = data.draw(cases(kind))
    made = execute(*case)
    found = propensities(
        case.shape, case.own, case.eligible[None], made.row[None], case.exploration
    )
    assert found[0] == pytest.approx(made.propensity, rel=1e-9)
    assert made.propensity == pytest.approx(math.prod(made.factors))
    assert 0 < made.propensity < math.inf
    if not case.shape.dims:
        assert made.propensity <= 1.0 + 1e-12


@every_kind
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_decision_is_recomputed_from_its_log_to_the_last_bit(
    kind: str, data: st.DataObject
) -> None:
    case = data.draw(cases(kind))
    made = execute(*case)
    log = json.loads(
        json.dumps(
            {
                "exploration": case.exploration.logged(),
                "draw": case.draw,
                "density": logged_density(case.shape, case.own, case.exploration, made),
            }
        )
    )
    again = execute(
        shape_from(case.shape.described()),
        base_policy_from_density(case.shape, log["density"]),
        case.eligible,
        Exploration(**log["exploration"]),
        log["draw"],
    )
    assert again.row.tolist() == made.row.tolist()
    assert again.propensity == made.propensity
    assert list(again.factors) == log["density"]["factors"]
    assert again.explored == made.explored


@every_kind
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_nothing_that_is_not_eligible_is_drawn_and_no_number_leaves_its_box(
    kind: str, data: st.DataObject
) -> None:
    case = data.draw(cases(kind))
    row = execute(*case).row
    shape = case.shape
    if kind == "ranking":
        ranked = row[row >= 0].astype(int)
        assert case.eligible[ranked].all()
        assert len(set(ranked)) == len(ranked) == min(shape.slots, case.eligible.sum())
        assert (row[len(ranked) :] == -1).all()
        return
    for part, (start, _) in enumerate(shape.segments):
        assert case.eligible[start + int(row[part])]
    number = row[len(shape.segments) :]
    assert np.all((number >= shape.low) & (number <= shape.high))


def test_an_ineligible_label_part_or_item_has_a_propensity_of_nothing() -> None:
    mask = np.array([[True, False, True]])
    three = Discrete("a", "b", "c").shape
    own = worths(1, 1, 1)
    assert propensities(three, own, mask, np.array([[1.0]]), EPSILON)[0] == 0.0
    row = np.array([[2.0, 1.0]])
    assert propensities(ranking(3, 2), own, mask, row, EPSILON)[0] == 0.0
    twice = np.array([[2.0, 2.0]])
    assert propensities(ranking(3, 2), own, mask, twice, EPSILON)[0] == 0.0


@settings(max_examples=30, deadline=None)
@given(case=cases("ranking"))
def test_the_propensities_of_all_orderings_add_up_to_one(case: Case) -> None:
    there = np.flatnonzero(case.eligible)
    places = min(case.shape.slots, len(there))
    rows = np.full((math.perm(len(there), places), case.shape.slots), -1.0)
    rows[:, :places] = list(itertools.permutations(there, places))
    found = propensities(
        case.shape,
        BasePolicy(*(np.repeat(of, len(rows), axis=0) for of in case.own[:3])),
        np.repeat(case.eligible[None], len(rows), axis=0),
        rows,
        case.exploration,
    )
    assert found.sum() == pytest.approx(1.0)


def test_a_ranking_of_two_places_is_worked_by_hand() -> None:
    own = worths(0.5, 0.3, 0.2)
    eligible = np.ones((1, 3), bool)
    plackett_luce = propensities(ranking(3, 2), own, eligible, np.array([[1.0, 0.0]]), NONE)[0]
    assert plackett_luce == pytest.approx(0.3 * 0.5 / 0.7)
    mixed = propensities(ranking(3, 2), own, eligible, np.array([[1.0, 0.0]]), EPSILON)[0]
    # 0.2 of each place is uniform, over three items and over the two that are left
    assert mixed == pytest.approx((0.8 * 0.3 + 0.2 / 3) * (0.8 * 0.5 / 0.7 + 0.2 / 2))


def test_rankings_are_drawn_as_often_as_their_propensities_say() -> None:
    shape, own = ranking(3, 2), worths(0.6, 0.3, 0.1)
    eligible = np.ones(3, bool)
    rng = np.random.default_rng(0)
    drawn = [
        tuple(execute(shape, own, eligible, EPSILON, u).row.astype(int)) for u in rng.random(3_000)
    ]
    rows = np.array(list(itertools.permutations(range(3), 2)), float)
    expected = propensities(
        shape,
        BasePolicy(np.repeat(own.probabilities, 6, axis=0), *own[1:3]),
        np.ones((6, 3), bool),
        rows,
        EPSILON,
    )
    seen = [drawn.count(tuple(row.astype(int))) for row in rows]
    assert stats.chisquare(seen, expected * len(drawn)).pvalue > 1e-3


DENSITIES = {
    "a narrow one": numbers(1.0, 0.2),
    "one that the box cuts": numbers(5.5, 3.0),
    "one whose mean lies outside": numbers(9.0, 1.0),
    "nearly a point": numbers(1.0, 1e-9),
    "a squashed one": numbers(0.3, 0.6, squashed=True),
    "a squashed one at its edges": numbers(-1.0, 1.5, squashed=True),
}
MIXTURES = {
    "none": NONE,
    "a floor": Exploration(kind="own", floor=0.05),
    "gaussian": Exploration(kind="gaussian", floor=0.01, std=0.3),
    "much uniform": Exploration(kind="own", epsilon=0.5, floor=0.01),
}
every_density = pytest.mark.parametrize("own", DENSITIES.values(), ids=list(DENSITIES))
every_mixture = pytest.mark.parametrize("exploration", MIXTURES.values(), ids=list(MIXTURES))


def cumulative(own: BasePolicy, exploration: Exploration, edges: np.ndarray) -> np.ndarray:
    """Mass of the executed density up to each edge, by the trapezoid rule. `[n]`"""
    rows = len(edges)
    density = propensities(
        BOX,
        BasePolicy(
            np.ones((rows, 1)),
            np.repeat(own.mean, rows, axis=0),
            np.repeat(own.std, rows, axis=0),
            own.squashed,
        ),
        np.ones((rows, 1), bool),
        edges[:, None],
        exploration,
    )
    steps = np.diff(edges) * (density[1:] + density[:-1]) / 2
    return np.concatenate([[0.0], np.cumsum(steps)])


@every_density
@every_mixture
def test_a_density_integrates_to_one_over_its_box(
    own: BasePolicy, exploration: Exploration
) -> None:
    # fine where a squashed density rises steeply: before squashing, evenly
    edges = 2.0 + 4.0 * np.tanh(np.linspace(-14, 14, 12_001))
    edges = np.union1d(edges, np.linspace(0.9, 1.1, 1_501))
    total = cumulative(own, exploration, edges)[-1]
    assert total == pytest.approx(1.0, abs=2e-3)


@every_density
@every_mixture
def test_numbers_are_drawn_as_the_logged_density_says(
    own: BasePolicy, exploration: Exploration
) -> None:
    rng = np.random.default_rng(1)
    drawn = [execute(BOX, own, np.ones(1, bool), exploration, u).row[0] for u in rng.random(1_000)]
    edges = 2.0 + 4.0 * np.tanh(np.linspace(-14, 14, 12_001))
    edges = np.union1d(edges, np.linspace(0.9, 1.1, 1_501))
    mass = cumulative(own, exploration, edges)
    levels = np.interp(drawn, edges, mass / mass[-1])  # uniform, if the density is true
    assert stats.kstest(levels, "uniform").pvalue > 1e-3


def test_the_numbers_of_one_decision_are_independent_of_each_other() -> None:
    rng = np.random.default_rng(2)
    drawn = np.array([draws_from(u, 4) for u in rng.random(4_000)])
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.06
    for column in drawn.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3


def test_parts_are_drawn_as_often_as_their_product_says() -> None:
    actions = Parts({"a": Discrete("x", "y"), "b": Discrete("p", "q", "r")})
    probabilities = np.array([[0.7, 0.3, 0.5, 0.25, 0.25]])
    own = BasePolicy(probabilities, np.zeros((1, 0)), np.zeros((1, 0)))
    rng = np.random.default_rng(3)
    eligible = np.ones(5, bool)
    drawn = [
        tuple(execute(actions.shape, own, eligible, EPSILON, u).row) for u in rng.random(3_000)
    ]
    rows = list(itertools.product([0.0, 1.0], [0.0, 1.0, 2.0]))
    expected = propensities(
        actions.shape,
        BasePolicy(np.repeat(probabilities, 6, axis=0), np.zeros((6, 0)), np.zeros((6, 0))),
        np.ones((6, 5), bool),
        np.array(rows),
        EPSILON,
    )
    assert expected.sum() == pytest.approx(1.0)
    seen = [drawn.count(row) for row in rows]
    assert stats.chisquare(seen, expected * len(drawn)).pvalue > 1e-3


def test_the_product_of_very_many_numbers_stays_one_that_json_can_carry() -> None:
    for high in (1e-9, 1e9):  # densities of 1e9 and of 1e-9, 200 times
        shape = Continuous(low=0.0, high=high, length=200).shape
        own = BasePolicy(np.ones((1, 1)), np.full((1, 200), high / 2), np.full((1, 200), high))
        made = execute(shape, own, np.ones(1, bool), EPSILON, 0.5)
        assert 0 < made.propensity < math.inf
        found = propensities(shape, own, np.ones((1, 1), bool), made.row[None], EPSILON)
        assert found[0] == made.propensity


def test_version_zero_answers_the_baselines_ranking_in_its_order() -> None:
    shape = ranking(8, 5)
    row = np.array([[4.0, 0.0, 7.0, 2.0, 5.0]])
    own = baseline_policy(shape, row, NONE)
    for u in (0.1, 0.3, 0.9):
        made = execute(shape, own, np.ones(8, bool), NONE, u)
        assert made.row.tolist() == row[0].tolist()
        assert made.propensity == pytest.approx(1.0, abs=1e-5)


def test_a_short_baseline_leaves_the_other_places_to_chance() -> None:
    shape = ranking(4, 3)
    own = baseline_policy(shape, np.array([[2.0, -1.0, -1.0]]), NONE)
    made = [execute(shape, own, np.ones(4, bool), NONE, u).row for u in (0.1, 0.5, 0.9)]
    assert all(row[0] == 2.0 for row in made)
    assert all(sorted(set(row)) == sorted(row) and (row >= 0).all() for row in made)


def test_version_zero_draws_numbers_around_the_baselines() -> None:
    own = baseline_policy(BOX, np.array([[3.0]]), Exploration(kind="gaussian", std=0.1))
    assert own.mean.tolist() == [[3.0]]
    assert own.std.tolist() == [[pytest.approx(0.8)]]  # a tenth of the range of 8


def test_gaussian_exploration_is_about_the_squashed_mean() -> None:
    own = numbers(0.5, 1.0, squashed=True)
    exploration = Exploration(kind="gaussian", floor=0.0, std=0.001)
    made = execute(BOX, own, np.ones(1, bool), exploration, 0.5)
    assert made.row[0] == pytest.approx(2.0 + 4.0 * math.tanh(0.5), abs=1e-6)


@pytest.mark.parametrize(
    "density",
    [
        {"kind": "truncated_normal", "mean": [1.0, 2.0], "std": [1.0, 1.0]},  # both of two
        {"kind": "truncated_normal", "mean": [1.0]},
        {"kind": "truncated_normal", "mean": [1.0], "std": None},
        {"kind": "truncated_normal", "mean": ["one"], "std": [1.0]},
        {"mean": [1.0], "std": [1.0]},
        {"kind": "truncated_normal", "probabilities": [0.5, 0.5], "mean": [1.0], "std": [1.0]},
    ],
)
def test_a_log_of_another_shape_is_refused(density: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        base_policy_from_density(BOX, density)


def test_a_policys_most_likely_action_is_its_best_label_its_mean_and_its_order() -> None:
    parts = Parts({"mode": Discrete("a", "b"), "speed": Continuous(low=0, high=10)}).shape
    own = BasePolicy(np.array([[0.3, 0.7]]), np.array([[0.0]]), np.array([[1.0]]), squashed=True)
    assert most_likely(parts, own, np.ones(2, bool)).tolist() == [1.0, 5.0]
    ranking = SPACES["ranking"].shape
    worths = BasePolicy(np.array([[0.1, 0.5, 0.2, 0.2, 0.0]]), np.zeros((1, 0)), np.zeros((1, 0)))
    eligible = np.array([True, False, True, True, False])
    assert most_likely(ranking, worths, eligible).tolist() == [2.0, 3.0, 0.0]
    assert most_likely(ranking, worths, eligible & [True, True, False, False, True]).tolist() == [
        0.0,
        -1.0,
        -1.0,
    ]
