"""Lift: bounds of a ratio by hand, and whose decisions count."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bakehouse_learner.insight.lift import Lift, relative
from bakehouse_learner.insight.sums import Bounded, WeightedSums
from bakehouse_learner.statistics.confidence_sequence import boundary
from bakehouse_learner.statistics.design_effect import NOBODY, SubjectSums
from bakehouse_learner.statistics.difference import DifferenceSequence, WeightedMoments


def test_a_relative_lift_by_hand() -> None:
    """12 against 10, squared errors 0.09 and 0.04, width 2: divisor 100 − 0.16 = 99.84,
    root 120² − 99.84·(144 − 0.36) = 58.98, so (120 ± 7.68) / 99.84 − 1."""
    found = relative(12.0, 10.0, (0.09, 0.04), 2.0)
    assert found.mean == pytest.approx(0.2)
    assert found.lower == pytest.approx(0.1250, abs=1e-4)
    assert found.upper == pytest.approx(0.2789, abs=1e-4)


def test_without_an_error_of_the_baseline_it_is_the_difference_divided() -> None:
    assert relative(12.0, 10.0, (0.25, 0.0), 2.0) == pytest.approx((0.2, 0.1, 0.3))


def test_a_baseline_that_cannot_be_told_from_0_gives_no_ratio() -> None:
    assert relative(12.0, 1.0, (0.09, 0.25), 2.0) == Bounded(None, None, None)
    assert relative(12.0, 0.0, (0.09, 0.0), 2.0) == Bounded(None, None, None)


def test_losing_less_than_a_baseline_that_loses_is_a_lift() -> None:
    found = relative(-8.0, -10.0, (0.01, 0.01), 2.0)
    assert found.mean == pytest.approx(0.2)
    assert found.lower is not None and found.upper is not None
    assert 0 < found.lower < 0.2 < found.upper


@example(first=0.875, second=1.0, errors=(0.01, np.nextafter(1.0, 0.0)), width=1.0)
@example(first=0.5, second=1.0, errors=(0.25, 0.25), width=1.0)  # one end is a ratio of 0
@given(
    first=st.floats(-100, 100),
    second=st.floats(1, 100),
    errors=st.tuples(st.floats(0.0001, 1), st.floats(0.0001, 1)),
    width=st.floats(0.1, 6),
)
def test_at_the_ends_the_difference_is_as_wide_as_its_error(
    first: float, second: float, errors: tuple[float, float], width: float
) -> None:
    found = relative(first, second, errors, width)
    if found.mean is None:
        assert width**2 * errors[1] >= second**2
        return
    assert found.lower is not None and found.upper is not None
    assert found.lower <= found.mean <= found.upper
    for end in map(Fraction, (found.lower, found.upper)):  # exact: the ends may be far away
        error = Fraction(errors[0]) + (end + 1) ** 2 * Fraction(errors[1])
        apart = (Fraction(first) - (end + 1) * Fraction(second)) ** 2
        assert float(apart / (Fraction(width) ** 2 * error)) == pytest.approx(1.0, abs=1e-9)


def test_a_lift_covers_the_truth_at_every_look_in_almost_every_game() -> None:
    """0.6 against 0.5 is +20%; looked at after every 100 decisions. 95% each, of 60 games."""
    rng, missed = np.random.default_rng(0), 0
    for _ in range(60):
        lift, wrong = Lift(0.05), False
        lift.begin(np.array([0]))
        for _ in range(20):
            holdout = rng.random(100) < 0.3
            value = np.where(rng.random(100) < np.where(holdout, 0.5, 0.6), 1.0, 0.0)
            lift.add(np.arange(100), people(rng, 100), value, ~holdout, holdout)
            if (said := lift.figures()["relative"]) is not None:
                wrong |= not said["lower"] <= 0.2 <= said["upper"]
        missed += wrong
    assert missed <= 5


def people(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.integers(1 << 62, size=size).astype(np.uint64)


def missed(games: int, *, subjects: int, spend: float, holdout: float) -> tuple[int, int]:
    """Of games in which policy and rules are worth the same, and some subjects spend: those in
    which a lift was claimed at some look, and those in which it would have been, were every
    decision on its own."""
    rng, wrong, naive = np.random.default_rng(3), 0, 0
    for _ in range(games):
        lift, apart, who = Lift(0.05), DifferenceSequence(0.05), people(rng, subjects)
        spends, held = rng.random(subjects) < spend, rng.random(subjects) < holdout
        lift.begin(np.array([0]))
        lied = lied_naively = False
        for come in range(subjects // 20, subjects + 1, subjects // 20):  # they come by and by
            at = rng.integers(come, size=1_000)
            value = spends[at] * rng.exponential(10.0, 1_000)
            lift.add(np.arange(1_000), who[at], value, ~held[at], held[at])
            apart.update(value[~held[at]], value[held[at]])
            if (told := lift.figures()["difference"]) is not None:
                lied |= not told["lower"] <= 0.0 <= told["upper"]
            lied_naively |= not apart.interval().lower <= 0.0 <= apart.interval().upper
        wrong, naive = wrong + lied, naive + lied_naively
    return wrong, naive


def test_players_whose_decisions_are_alike_do_not_make_a_lift_that_is_not_there() -> None:
    """Twenty thousand decisions of 400 players: counted each on its own, what the few who spend
    do is taken for the policy's doing in most games."""
    wrong, naive = missed(60, subjects=400, spend=0.1, holdout=0.3)
    assert wrong <= 3 and naive >= 30


def test_a_holdout_that_has_seen_no_spender_yet_is_not_sure_of_it() -> None:
    """One player of fifty spends, and of a hundred in the holdout maybe none."""
    wrong, naive = missed(60, subjects=1_000, spend=0.02, holdout=0.1)
    assert wrong <= 3 and naive >= 15


def test_the_error_of_a_mean_of_subjects_by_hand() -> None:
    """Two subjects of five decisions each, 1s and 0s: mean ½, shares off by ±5 · ½, and the one
    farthest off counts twice more: (2 · 6.25 + 2 · 6.25) / 10² = 0.25. Of ten people that nobody
    knows each is a subject: (10 · ¼ + 2 · ¼) / 10² = 0.03."""
    sums, nobody = SubjectSums(), SubjectSums()
    values, ones = np.repeat([1.0, 0.0], 5), np.ones(10)
    sums.add(np.repeat(np.array([7, 9], np.uint64), 5), values, ones)
    assert (sums.at_least, sums.squared_error) == (2, pytest.approx(0.25))
    nobody.add(np.full(10, NOBODY, np.uint64), values, ones)
    assert (nobody.at_least, nobody.squared_error) == (10, pytest.approx(0.03))
    assert (SubjectSums().at_least, SubjectSums().squared_error) == (0, 0.0)


def test_weights_count_in_a_subject_as_in_a_mean() -> None:
    """Weight 3 is as a value three times; of weight 0 nobody was there."""
    weighted, thrice = SubjectSums(), SubjectSums()
    who = np.array([7, 9, 11], np.uint64)
    weighted.add(who, np.array([1.0, 0.5, 9.0]), np.array([3.0, 1.0, 0.0]))
    thrice.add(who[[0, 0, 0, 1]], np.array([1.0, 1.0, 1.0, 0.5]), np.ones(4))
    assert weighted.squared_error == pytest.approx(thrice.squared_error)
    assert weighted.at_least == thrice.at_least == 2


def test_of_decisions_on_their_own_hardly_any_width_is_added() -> None:
    rng, lift = np.random.default_rng(5), Lift(0.05)
    lift.begin(np.array([0]))
    holdout = rng.random(20_000) < 0.3
    value = rng.normal(2, 1, 20_000)
    lift.add(np.arange(20_000), people(rng, 20_000), value, ~holdout, holdout)
    error = math.sqrt(1 / np.sum(holdout) + 1 / np.sum(~holdout))
    told = lift.figures()
    wide = told["difference"]["upper"] - told["difference"]["lower"]
    width = wide / (2 * error * boundary(20_000, 0.05))
    assert 0.98 <= width < 1.1
    assert 1.0 <= told["design_effect"] < 1.1


def test_of_too_few_subjects_nothing_is_claimed_whatever_they_did() -> None:
    rng, lift = np.random.default_rng(6), Lift(0.05)
    lift.begin(np.array([0]))
    who = np.arange(1, 41, dtype=np.uint64)[rng.integers(40, size=9_000)]
    holdout = who < 30
    lift.add(np.arange(9_000), who, np.where(holdout, 0.0, 1.0), ~holdout, holdout)
    figures = lift.figures()
    assert figures["holdout"]["n"] > 5_000 and figures["holdout"]["subjects_at_least"] == 29
    assert (figures["difference"], figures["relative"], figures["burn_in"]) == (None, None, 30)


def test_the_holdout_counts_from_the_first_decision_of_a_policy() -> None:
    lift, nobody = Lift(0.05), np.zeros(1, bool)
    yes, one = np.ones(1, bool), np.array([1.0])
    who = np.array([5], np.uint64)
    lift.add(np.array([100]), who, one, nobody, yes)
    nothing = {"n": 0, "subjects_at_least": 0, "mean": None, "std": 0.0}
    assert lift.figures()["holdout"] == nothing
    lift.begin(np.array([300, 200]))
    lift.begin(np.array([50]))  # there is only one first time
    assert lift.since_ms == 200
    lift.add(np.array([199]), who, one, nobody, yes)
    lift.add(np.array([200]), who, one, nobody, yes)
    figures = lift.figures()
    assert (figures["holdout"]["n"], figures["policy"]["n"]) == (1, 0)
    assert (figures["difference"], figures["relative"], figures["confidence"]) == (None, None, 0.95)


def test_a_lift_goes_on_where_its_state_ended() -> None:
    rng, lift, again = np.random.default_rng(1), Lift(0.05), Lift(0.05)
    lift.begin(np.array([0]))
    for _ in range(3):
        holdout = rng.random(100) < 0.5
        lift.add(np.arange(100), people(rng, 100), rng.normal(2, 1, 100), ~holdout, holdout)
    again.restore(lift.state())
    assert again.figures() == lift.figures()
    assert again.figures()["relative"] is not None


values = st.lists(
    st.tuples(st.integers(0, 3), st.floats(-100, 100), st.just(0.0) | st.floats(0.01, 10)),
    min_size=1,
    max_size=60,
)


def filled(rows: list[tuple[int, float, float]], groups: int = 4) -> WeightedSums:
    sums = WeightedSums(groups)
    group, x, w = (np.array(column) for column in zip(*rows, strict=True))
    sums.add(group.astype(int), x.astype(float), w.astype(float))
    return sums


@given(values)
def test_sums_give_the_mean_and_leave_out_what_has_no_weight(
    rows: list[tuple[int, float, float]],
) -> None:
    sums = filled(rows)
    for group in range(4):
        mine = [(x, w) for at, x, w in rows if at == group and w > 0]
        assert sums.n[group] == len(mine)
        if sum(w for _, w in mine) < 1e-3:
            continue
        expected = np.average([x for x, _ in mine], weights=[w for _, w in mine])
        assert sums.mean(group) == pytest.approx(expected, abs=1e-6)


@given(values)
def test_merging_pairs_is_as_if_they_had_been_one_group(
    rows: list[tuple[int, float, float]],
) -> None:
    merged, one = filled(rows), filled([(at // 2, x, w) for at, x, w in rows])
    merged.merge_pairs()
    assert merged.n.tolist() == one.n.tolist()
    for group in range(2):
        assert merged.mean(group) == pytest.approx(one.mean(group), abs=1e-6)
        assert merged.effective_sample(group) == pytest.approx(one.effective_sample(group))


def test_bounds_are_those_of_one_group_of_a_difference() -> None:
    x = np.random.default_rng(2).normal(3, 2, 200)
    sums, group = WeightedSums(1), WeightedMoments()
    sums.add(np.zeros(200, int), x, np.ones(200))
    group.update(x, np.ones(200))
    found = sums.bounds(0, 0.05)
    assert found.mean is not None and found.upper is not None
    error = math.sqrt(group.squared_error)
    assert found.mean == pytest.approx(group.mean)
    # nρ² = 5.99 + log 6.99 = 7.94 at its tightest: √(2 (1 + 1/7.94) (½ log 8.94 + log 20))
    assert (found.upper - found.mean) / error == pytest.approx(3.035, abs=1e-3)
    assert sums.bounds(0, 0.05) == filled_again(sums).bounds(0, 0.05)


def filled_again(sums: WeightedSums) -> WeightedSums:
    again = WeightedSums(len(sums.n))
    again.restore(sums.state())
    return again


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf, 1e300, 1e-300])
def test_a_weight_that_cannot_be_squared_changes_nothing(weight: float) -> None:
    sums, without = filled([(0, 2.0, 1.0)] * 40), filled([(0, 2.0, 1.0)] * 40)
    sums.add(np.array([0]), np.array([9.0]), np.array([weight]))
    assert sums.bounds(0, 0.05) == without.bounds(0, 0.05)


def test_too_few_values_have_a_mean_and_no_bounds() -> None:
    sums = filled([(0, 2.0, 1.0)] * 29)
    assert sums.bounds(0, 0.05) == Bounded(2.0, None, None)
    assert sums.bounds(1, 0.05) == Bounded(None, None, None)
