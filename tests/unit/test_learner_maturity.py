"""Reward so far, maturity, and what is expected of decisions that are still open."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bakehouse_learner.replay.maturity import IN_TIME, LATE, NEVER, RemainingReward, assess, curve
from bakehouse_schemas.application.application import seconds
from bakehouse_schemas.application.reward import DecisionTimes, Reward, TimedOutcome, closed_at_ms

WINDOW_MS = 10_000
TIMES = DecisionTimes(decided_at_ms=1_000, received_at_ms=1_000)


def won(after_ms: int, *, received_after_ms: int | None = None, at: int = 0) -> TimedOutcome:
    received = after_ms if received_after_ms is None else received_after_ms
    return TimedOutcome(
        f"o{after_ms}-{at}", "reward", "won", None, 1_000 + after_ms, 1_000 + received
    )


def end(after_ms: int) -> TimedOutcome:
    return TimedOutcome(f"end{after_ms}", "end", None, None, 1_000 + after_ms, 1_000 + after_ms)


def rule(**changes: object) -> Reward:
    return Reward({"won": 1.0}, window=seconds(10), **changes)  # type: ignore[arg-type]


def test_a_decision_without_outcomes_matures_when_its_window_ends_at_the_default() -> None:
    assert assess(rule(default=-1.0), TIMES, []) == (-1.0, 11_000, NEVER)


def test_an_end_matures_a_decision_when_the_broker_received_it() -> None:
    assert assess(rule(), TIMES, [won(2_000), end(3_000)]) == (1.0, 4_000, IN_TIME)


def test_the_outcome_that_fills_closes_after_is_the_one_that_closes() -> None:
    arrived = [won(1_000, at=at) for at in range(5)] + [won(7_000)]
    assert closed_at_ms(rule(closes_after=6), TIMES, arrived) == 8_000
    assert closed_at_ms(rule(closes_after=7), TIMES, arrived) is None


def test_an_end_after_the_window_does_not_postpone_maturity() -> None:
    assert assess(rule(), TIMES, [end(25_000)]).matured_at_ms == 11_000


def test_what_is_delivered_after_maturity_is_dropped_only_where_that_is_asked_for() -> None:
    late = [won(9_000, received_after_ms=14_000)]
    assert assess(rule(late="amend"), TIMES, late).reward == 1.0
    assert assess(rule(late="drop"), TIMES, late).reward == 0.0


@pytest.mark.parametrize(
    ("outcomes", "heard"),
    [
        ([], NEVER),
        ([won(9_000)], IN_TIME),
        ([end(9_000)], IN_TIME),
        ([won(9_000, received_after_ms=14_000)], LATE),  # occurred in time, delivered late
        ([won(12_000)], LATE),
        ([won(12_000, at=1), won(3_000, at=2)], IN_TIME),
        ([TimedOutcome("o", "reward", "shown", None, 2_000, 2_000)], NEVER),  # of no reward
        ([TimedOutcome("o", "activated", None, None, 2_000, 2_000)], NEVER),
    ],
)
def test_a_decision_is_heard_of_in_time_late_or_never(
    outcomes: list[TimedOutcome], heard: int
) -> None:
    assert assess(rule(), TIMES, outcomes).heard == heard


def test_a_reward_function_that_fails_gives_no_number_instead_of_stopping() -> None:
    def broken(outcomes: object) -> float:
        raise ZeroDivisionError

    assert math.isnan(assess(Reward(broken, window=seconds(10)), TIMES, [won(1_000)]).reward)


def test_the_remaining_reward_of_a_curve_is_what_was_still_to_come() -> None:
    edges = np.array([0.0, 2_500.0, 5_000.0, 10_000.0])
    found = curve(rule(), TIMES, [won(1_000), won(4_000)], edges)
    assert found.remaining.tolist() == [2.0, 1.0, 0.0, 0.0]
    assert found.open.tolist() == [True, True, True, False]


def test_a_closed_decision_is_not_open_at_later_ages() -> None:
    edges = np.array([0.0, 2_500.0, 5_000.0, 10_000.0])
    found = curve(rule(closes_after=1), TIMES, [won(4_000)], edges)
    assert found.open.tolist() == [True, True, False, False]


def test_nothing_is_expected_before_anything_has_matured() -> None:
    remaining = RemainingReward(2, WINDOW_MS)
    assert remaining.mean(np.array([0, 1]), np.array([0, 5_000])).tolist() == [0.0, 0.0]


def test_the_mean_is_over_decisions_of_that_action_that_were_open_at_that_age() -> None:
    remaining = RemainingReward(2, WINDOW_MS)
    once = rule(closes_after=1)
    quick = curve(once, TIMES, [won(100)], remaining.edges)
    silent = curve(once, TIMES, [], remaining.edges)
    for found in (quick, silent, silent, silent):
        remaining.add(0, found)
    asked = remaining.mean(np.array([0, 0, 1]), np.array([0, 5_000, 0]))
    # at age 0 one of four is still to win; at 5 s only silent ones are open; action 1: no history
    assert asked.tolist() == [0.25, 0.0, 0.0]


def test_between_two_edges_the_mean_is_interpolated() -> None:
    remaining = RemainingReward(1, WINDOW_MS)
    left, right = remaining.edges[[32, 33]]
    steep = curve(rule(), TIMES, [won(int(right))], remaining.edges)
    remaining.add(0, steep)
    middle = remaining.mean(np.array([0]), np.array([(left + right) / 2]))
    assert middle[0] == pytest.approx(0.5)


def test_old_decisions_leave_the_history_without_a_trace() -> None:
    remaining, fresh = (RemainingReward(1, WINDOW_MS, history=3) for _ in range(2))
    curves = [curve(rule(), TIMES, [won(at)], remaining.edges) for at in range(500, 4_000, 500)]
    for found in curves:
        remaining.add(0, found)
    for found in curves[-3:]:
        fresh.add(0, found)
    ages = np.linspace(0, WINDOW_MS, 23)
    actions = np.zeros(23, dtype=int)
    np.testing.assert_allclose(remaining.mean(actions, ages), fresh.mean(actions, ages), atol=1e-12)


def test_a_restored_history_expects_the_same() -> None:
    remaining, restored = RemainingReward(1, WINDOW_MS), RemainingReward(1, WINDOW_MS)
    remaining.add(0, curve(rule(), TIMES, [won(3_000)], remaining.edges))
    restored.restore(remaining.state())
    ages = np.array([0.0, 1_000.0, 2_500.0])
    expected = remaining.mean(np.zeros(3, int), ages)
    assert restored.mean(np.zeros(3, int), ages).tolist() == expected.tolist()
    assert expected[0] == 1.0


def test_silent_failures_do_not_make_an_action_look_good() -> None:
    """Wins come within a second, failures never say a word; the truth is 0.4."""
    rng = np.random.default_rng(0)
    once = rule(closes_after=1)
    remaining = RemainingReward(1, WINDOW_MS)
    decisions = []
    for at in range(3_000):
        received = at * 10
        times = DecisionTimes(received, received)
        after = int(rng.integers(100, 1_000))
        outcomes = (
            [TimedOutcome("w", "reward", "won", None, received + after, received + after)]
            if rng.random() < 0.4
            else []
        )
        decisions.append((times, outcomes))
    now = 3_000 * 10
    targets = []
    for times, outcomes in decisions:
        if times.received_at_ms + WINDOW_MS <= now:
            remaining.add(0, curve(once, times, outcomes, remaining.edges))
    for times, outcomes in decisions:
        if times.received_at_ms + WINDOW_MS > now:
            known = [outcome for outcome in outcomes if outcome.received_at_ms <= now]
            found = assess(once, times, known)
            rest = 0.0
            if found.matured_at_ms > now:
                age = np.array([now - times.received_at_ms])
                rest = float(remaining.mean(np.array([0]), age)[0])
            targets.append(found.reward + rest)
    assert len(targets) == 999
    assert np.mean(targets) == pytest.approx(0.4, abs=0.04)
    # the last second alone, of which half the wins are still to come
    assert np.mean(targets[-100:]) == pytest.approx(0.4, abs=0.12)
