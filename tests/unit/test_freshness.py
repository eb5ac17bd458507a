"""Freshness by hand: outcome → table version → policy trained on it → its first answer."""

import pytest

from bakehouse.demo.freshness import measure_freshness
from bakehouse.players.players import AcceptedOutcome


def outcome(name: str, at_s: float) -> AcceptedOutcome:
    return AcceptedOutcome(name, f"decision of {name}", at_s)


def test_an_outcome_is_fresh_with_the_first_answer_of_a_policy_trained_on_it() -> None:
    fresh = measure_freshness(
        [outcome("a", 100.0), outcome("b", 101.5)],
        table_versions={"a": 7, "b": 9},
        trained_on={1: 5, 2: 7, 3: 8, 4: 12},
        first_answers={0: 90.0, 1: 95.0, 2: 101.0, 3: 102.0, 4: 104.0},
        last_answer_s=200.0,
    )
    assert fresh.delays_s.tolist() == [1.0, 2.5]
    assert fresh.summary() == {"p50": 1.75, "p95": 2.425, "n": 2}


def test_a_later_policy_answers_for_one_that_never_did() -> None:
    fresh = measure_freshness(
        [outcome("a", 100.0)],
        table_versions={"a": 7},
        trained_on={1: 5, 2: 7, 3: 8},
        first_answers={1: 95.0, 3: 103.0},
        last_answer_s=200.0,
    )
    assert fresh.delays_s.tolist() == [3.0]


def test_a_policy_whose_manifest_is_unknown_proves_nothing() -> None:
    fresh = measure_freshness(
        [outcome("a", 100.0)],
        table_versions={"a": 7},
        trained_on={1: 5, 3: 8},
        first_answers={1: 95.0, 2: 101.0, 3: 103.0},
        last_answer_s=200.0,
    )
    assert fresh.delays_s.tolist() == [3.0]


def test_what_came_before_the_first_trained_policy_or_in_the_tail_is_left_out() -> None:
    fresh = measure_freshness(
        [outcome("before", 94.0), outcome("a", 100.0), outcome("tail", 191.0)],
        table_versions={"before": 1, "a": 7, "tail": 8},
        trained_on={1: 5, 2: 9},
        first_answers={0: 90.0, 1: 95.0, 2: 192.0},
        last_answer_s=200.0,
        tail_s=10.0,
    )
    assert fresh.delays_s.tolist() == [92.0]
    assert fresh.left_out == 2


def test_an_outcome_that_no_policy_ever_learned_of_counts_with_the_time_it_waited() -> None:
    fresh = measure_freshness(
        [outcome("never joined", 100.0), outcome("never trained on", 120.0)],
        table_versions={"never trained on": 50},
        trained_on={1: 5},
        first_answers={1: 95.0},
        last_answer_s=200.0,
    )
    assert fresh.delays_s.tolist() == [100.0, 80.0]
    assert fresh.waiting == 2


def test_without_a_trained_policy_there_is_nothing_to_measure() -> None:
    fresh = measure_freshness(
        [outcome("a", 100.0)],
        table_versions={},
        trained_on={},
        first_answers={0: 90.0},
        last_answer_s=200.0,
    )
    assert fresh.summary() == {"p50": None, "p95": None, "n": 0}
    assert fresh.left_out == 1


@pytest.mark.parametrize("version", [3, 4])
def test_going_back_to_an_older_policy_does_not_unlearn(version: int) -> None:
    fresh = measure_freshness(
        [outcome("a", 100.0)],
        table_versions={"a": 8},
        trained_on={1: 5, 3: 8, 4: 8},
        first_answers={version: 99.0, 1: 101.0},
        last_answer_s=200.0,
    )
    assert fresh.delays_s.tolist() == [0.0]
