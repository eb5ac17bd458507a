"""Buckets of time that double, shares by version, and histograms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakehouse_learner.insight.histogram import Histogram
from bakehouse_learner.insight.series import BUCKETS, MOST_ACTIONS, OTHERS, Series
from bakehouse_learner.insight.versions import GROUPS, VersionShares


def at(*times: int) -> np.ndarray:
    return np.array(times, dtype=np.int64)


def test_values_are_in_the_five_seconds_in_which_they_arrived() -> None:
    series = Series(0.05, ("a", "b"))
    series.add("policy", at(51_000, 54_500, 60_000), np.array([1.0, 0.0, 5.0]))
    series.add("holdout", at(64_999), np.array([2.0]))
    series.count(at(51_000, 54_500, 60_000), at(0, 4, 5), [np.array([0, 1, 1])])
    figures = series.figures()
    assert (figures["bucket_ms"], figures["at_ms"]) == (5_000, [50_000, 60_000])
    assert figures["policy"] == {
        "n": [2, 1], "mean": [0.5, 5.0], "lower": [None, None], "upper": [None, None]
    }  # fmt: skip
    assert figures["holdout"]["mean"] == [None, 2.0]
    assert figures["actions"] == {"a": [1, 0], "b": [1, 1]}
    assert figures["version"] == [4, 5]


def test_when_there_are_too_many_buckets_pairs_become_one() -> None:
    series = Series(0.05, ("a",))
    times = np.arange(BUCKETS, dtype=np.int64) * 5_000
    series.add("policy", times, np.arange(BUCKETS, dtype=float))
    series.count(times, np.arange(BUCKETS), [np.zeros(BUCKETS, int)])
    assert series.bucket_ms == 5_000
    series.add("policy", at(BUCKETS * 5_000), np.array([7.0]))
    figures = series.figures()
    assert figures["bucket_ms"] == 10_000
    assert len(figures["at_ms"]) == BUCKETS // 2 + 1
    assert figures["policy"]["mean"][:2] == [0.5, 2.5]
    assert figures["policy"]["mean"][-1] == 7.0
    assert figures["actions"]["a"][:2] == [2, 2]
    assert figures["version"][:2] == [1, 3]  # the later of both


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 10_000_000), min_size=1, max_size=50), st.integers(1, 7))
def test_however_times_come_every_value_is_counted_and_the_mean_stays(
    times: list[int], pieces: int
) -> None:
    series = Series(0.05, ())
    all_values = np.arange(len(times), dtype=float)
    for piece in np.array_split(np.arange(len(times)), pieces):
        if len(piece):
            series.add("policy", at(*(times[i] for i in piece)), all_values[piece])
    line = series.figures()["policy"]
    assert sum(line["n"]) == len(times)
    total = sum(n * mean for n, mean in zip(line["n"], line["mean"], strict=True))
    assert total == pytest.approx(all_values.sum())
    assert len(line["n"]) <= BUCKETS


def test_of_many_choices_the_rare_ones_are_told_together() -> None:
    names = [f"choice-{n}" for n in range(20)]
    series = Series(0.05, names)
    chosen = np.repeat(np.arange(20), np.arange(1, 21))
    series.count(np.zeros(len(chosen), np.int64), np.zeros(len(chosen), np.int64), [chosen])
    told = series.figures()["actions"]
    assert len(told) == MOST_ACTIONS
    assert told["choice-19"] == [20]
    assert told[OTHERS] == [sum(range(1, 10))]


def test_a_series_goes_on_where_its_state_ended() -> None:
    series, again = Series(0.05, ("a",)), Series(0.05, ("a",))
    series.add("random", at(0, 500_000), np.array([1.0, 3.0]), np.array([2.0, 0.5]))
    series.count(at(0, 500_000), at(1, 2), [np.zeros(2, int)])
    again.restore(series.state())
    assert again.figures() == series.figures()
    with pytest.raises(ValueError, match="expected"):
        Series(0.05, ("a", "b")).restore(series.state())


def test_version_0_is_a_group_of_its_own_and_full_groups_make_room() -> None:
    shares = VersionShares(["a", "b"])
    for version in range(4):
        left = np.array([[True, False]] * 75 + [[False, True]] * 25)
        shares.add(np.full(100, version), left)
    found = shares.figures()
    assert [(one["from"], one["to"], one["n"]) for one in found] == [
        (0, 0, 100), (1, 2, 200), (3, 3, 100)
    ]  # fmt: skip
    assert found[1]["shares"] == {"a": 0.75, "b": 0.25}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 400)), min_size=1, max_size=80))
def test_groups_of_versions_are_few_and_in_order_and_lose_no_decision(
    rows: list[tuple[int, int]],
) -> None:
    shares = VersionShares(["a"])
    for version, n in rows:
        shares.add(np.full(n, version), np.ones((n, 1), bool))
    found = shares.figures()
    assert len(found) <= GROUPS
    assert sum(one["n"] for one in found) == sum(n for _, n in rows)
    ends = [end for one in found for end in (one["from"], one["to"])]
    assert ends == sorted(ends)
    if any(version == 0 for version, _ in rows):
        assert (found[0]["from"], found[0]["to"]) == (0, 0)


def test_a_histogram_counts_policies_and_the_holdout_apart() -> None:
    histogram = Histogram("speed", 0.0, 32.0)
    numbers = np.array([0.0, 0.5, 31.9, 32.0, 16.0])
    policy = np.array([True, True, True, False, False])
    histogram.add(numbers, policy, np.array([False, False, False, True, True]))
    figures = histogram.figures()
    assert (figures["policy"][0], figures["policy"][31]) == (2, 1)
    assert (figures["holdout"][16], figures["holdout"][31]) == (1, 1)
    assert (sum(figures["policy"]), sum(figures["holdout"])) == (3, 2)
