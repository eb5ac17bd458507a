"""Policy and holdout are compared within the hours in which both were there."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakehouse_learner.statistics.design_effect import SubjectSums
from bakehouse_learner.statistics.difference import DifferenceSequence, WeightedMoments
from bakehouse_learner.statistics.stratified import LEAST_SUBJECTS, StratifiedMeans

SUBJECTS = np.arange(1, 10_001, dtype=np.uint64)


def taken(*strata: tuple[list[float], list[float]]) -> StratifiedMeans:
    """Each stratum's values of the first and of the second group, each of a subject of its own."""
    means, at = StratifiedMeans(), 0
    for number, groups in enumerate(strata):
        means.reach(number)
        for group, values in enumerate(groups):
            means.add(
                group, np.array(values), np.ones(len(values)), SUBJECTS[at : at + len(values)]
            )
            at += len(values)
    return means


def test_a_day_on_which_everybody_earns_less_is_no_effect_of_the_policy() -> None:
    """10 of the policy and 90 of the holdout on a day worth 1, then 90 and 10 on one worth 0."""
    first, second = taken(([1.0] * 10, [1.0] * 90), ([0.0] * 90, [0.0] * 10)).groups()
    assert first.mean == second.mean == pytest.approx(0.5)  # pooled: 0.1 and 0.9
    assert first.squared_error == second.squared_error == 0.0


def test_a_stratum_counts_by_what_it_knows_of_the_difference() -> None:
    """W = 20·20/40 = 10 and 10·90/100 = 9, so the difference is (10·2 + 9·1) / 19."""
    found = taken(([3.0] * 20, [1.0] * 20), ([1.0] * 10, [0.0] * 90)).groups()
    assert found[0].mean - found[1].mean == pytest.approx(29 / 19)
    # W² / Σ W²/n, of the first group: 19² / (100/20 + 81/10)
    assert found[0].effective == pytest.approx(361 / 13.1)


def test_a_thin_stratum_goes_on_in_the_next_and_is_not_dropped() -> None:
    few = LEAST_SUBJECTS - 1
    merged = taken(([1.0] * few, [0.0] * few), ([1.0] * 20, [0.0] * 20))
    at_once = taken(([1.0] * (few + 20), [0.0] * (few + 20)))
    for one, other in zip(merged.groups(), at_once.groups(), strict=True):
        assert one == pytest.approx(other)
    assert merged.n == (few + 20, few + 20)


@given(
    st.lists(st.floats(-100, 100), min_size=40, max_size=80),
    st.lists(st.integers(1, 30), min_size=80, max_size=80),
)
def test_with_one_stratum_they_are_the_plain_means_and_errors_of_both_groups(
    values: list[float], whose: list[int]
) -> None:
    every, subject = np.array(values), np.array(whose[: len(values)], np.uint64)
    strata = StratifiedMeans()
    strata.reach(0)
    for group in (0, 1):
        mine = np.arange(len(every)) % 2 == group
        weights = np.ones(int(mine.sum()))
        strata.add(group, every[mine], weights, subject[mine])
        moments, sums = WeightedMoments(), SubjectSums()
        moments.update(every[mine], weights)
        sums.add(subject[mine], every[mine], weights)
    found = strata.groups()[1]  # the sums of the loop's last group
    assert found.mean == pytest.approx(moments.mean, abs=1e-9)
    assert found.effective == pytest.approx(moments.n)
    assert found.squared_error >= sums.squared_error * (1 - 1e-9) - 1e-12


def test_a_subject_is_added_up_over_strata_before_it_is_squared() -> None:
    """The same players in each of ten hours: as sure as one hour of them, not as ten of others."""
    rng = np.random.default_rng(1)
    tastes, same, others = rng.normal(size=400), StratifiedMeans(), StratifiedMeans()
    for hour in range(10):
        fresh = rng.normal(size=400)
        for means, worth, offset in ((same, tastes, 0), (others, fresh, 400 * hour)):
            means.reach(hour)
            for group in (0, 1):
                mine = slice(200 * group, 200 * group + 200)
                whose = SUBJECTS[offset : offset + 400][mine]
                means.add(group, worth[mine], np.ones(200), whose)
    ratio = same.groups()[0].squared_error / others.groups()[0].squared_error
    assert 5.0 < ratio < 15.0


def test_a_sequence_goes_on_from_its_state_as_if_it_had_never_stopped() -> None:
    rng, first = np.random.default_rng(2), DifferenceSequence(0.05)
    batches = [(rng.normal(size=50), rng.normal(size=50), np.repeat([at, at + 1], 25))
               for at in range(6)]  # fmt: skip
    whose = SUBJECTS[:50]

    def take(sequence: DifferenceSequence, batch: int) -> None:
        a, b, stratum = batches[batch]
        sequence.update(a, b, first_subject=whose, second_subject=whose + np.uint64(99),
                        first_stratum=stratum, second_stratum=stratum)  # fmt: skip

    for batch in range(3):
        take(first, batch)
    again = DifferenceSequence(0.1)
    again.restore(json.loads(json.dumps(first.state())))
    for batch in range(3, 6):
        take(first, batch)
        take(again, batch)
    assert again.interval() == first.interval()
    assert again.state() == first.state()


def test_what_a_release_without_strata_kept_goes_on_as_one_stratum() -> None:
    rng = np.random.default_rng(3)
    values = [rng.normal(5, 1, 60), rng.normal(4, 2, 70)]
    whose = [SUBJECTS[:60], SUBJECTS[100:170]]
    groups, subjects = [], []
    for mine, subject in zip(values, whose, strict=True):
        moments, sums = WeightedMoments(), SubjectSums()
        moments.update(mine, np.ones(len(mine)))
        sums.add(subject, mine, np.ones(len(mine)))
        groups.append(moments.state())
        subjects.append(sums.state())
    taken_over, now = DifferenceSequence(0.05), DifferenceSequence(0.05)
    taken_over.restore({"alpha": 0.05, "groups": groups, "subjects": subjects})
    now.update(*values, first_subject=whose[0], second_subject=whose[1])
    assert taken_over.interval()[:3] == pytest.approx(now.interval()[:3], rel=0.05)
    assert taken_over.means == pytest.approx(now.means)
    assert taken_over.n == now.n


@pytest.mark.parametrize("shift", [-0.4, 0.4, 0.0])
def test_a_common_shift_while_a_rollout_widens_says_nothing_against_an_equal_policy(
    shift: float,
) -> None:
    """A tenth of the players on the first day, all on the second, which is a bad or a good one."""
    wrong = 0
    for seed in range(40):
        rng, sequence = np.random.default_rng([seed, 7]), DifferenceSequence(0.05)
        for hour in range(48):
            whose = rng.integers(1, 20_000, size=200).astype(np.uint64)
            place = (whose * np.uint64(2654435761) % np.uint64(1000)).astype(float) / 1000
            holdout = place < 0.1
            policy = ~holdout & ((place - 0.1) / 0.9 < (0.1 if hour < 24 else 1.0))
            value = rng.normal(size=200) + shift * (hour >= 24)
            hours = np.full(200, hour)
            sequence.update(value[policy], value[holdout],
                            first_subject=whose[policy], second_subject=whose[holdout],
                            first_stratum=hours[policy], second_stratum=hours[holdout])  # fmt: skip
            bounds = sequence.interval()
            if bounds.lower > 0 or bounds.upper < 0:
                wrong += 1
                break
    assert wrong <= 2
