"""The reward: which outcomes count, and what they add up to. Worked by hand."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakehouse import Reward, seconds
from bakehouse_schemas.application.reward import DecisionTimes, TimedOutcome, delay_ms

DECIDED = DecisionTimes(decided_at_ms=1_000, received_at_ms=1_010)


def happened(
    name: str,
    *,
    at: int,
    received: int | None = None,
    value: float | None = None,
    kind: str = "reward",
    outcome_id: str | None = None,
) -> TimedOutcome:
    received_at_ms = at + 10 if received is None else received
    return TimedOutcome(outcome_id or f"{name}@{at}", kind, name, value, at, received_at_ms)


def test_weights_multiply_values_and_a_missing_value_is_one():
    reward = Reward({"won": 1.0, "coins": 0.5}, window=seconds(10))
    outcomes = [happened("won", at=2_000), happened("coins", at=3_000, value=4.0)]
    assert reward.value(reward.counted(DECIDED, outcomes)) == 3.0


def test_the_default_stands_where_nothing_counted():
    reward = Reward({"won": 1.0}, window=seconds(10), default=-0.5)
    unknown = [happened("opened_menu", at=2_000)]
    too_late = [happened("won", at=11_001)]
    assert reward.value(reward.counted(DECIDED, unknown)) == -0.5
    assert reward.value(reward.counted(DECIDED, too_late)) == -0.5


def test_an_outcome_on_the_last_millisecond_of_the_window_counts():
    reward = Reward({"won": 1.0}, window=seconds(10))
    assert reward.counted(DECIDED, [happened("won", at=11_000)])


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [("sum", 6.0), ("first", 3.0), ("last", 1.0), ("max", 3.0), ("min", 1.0), ("mean", 2.0)],
)
def test_several_outcomes_become_one_number(aggregate, expected):
    reward = Reward({"score": 1.0}, window=seconds(10), aggregate=aggregate)
    outcomes = [happened("score", at=2_000 + i, value=v) for i, v in enumerate([3.0, 2.0, 1.0])]
    counted = reward.counted(DECIDED, list(reversed(outcomes)))
    assert reward.value(counted) == expected


def test_what_occurred_in_time_counts_however_late_it_was_delivered():
    delivered_late = happened("won", at=2_000, received=60_000)
    amend = Reward({"won": 1.0}, window=seconds(10))
    drop = Reward({"won": 1.0}, window=seconds(10), late="drop")
    assert amend.counted(DECIDED, [delivered_late], matured_at_ms=11_010)
    assert not drop.counted(DECIDED, [delivered_late], matured_at_ms=11_010)
    assert drop.counted(DECIDED, [delivered_late])


@pytest.mark.parametrize(
    ("occurred", "received", "expected"),
    [
        (1_500, 1_600, 500),  # believable: the client's clock
        (900, 1_600, 590),  # before its decision: the brokers' gap
        (9_000, 1_600, 590),  # later than it arrived: the brokers' gap
        (1_500 + 365 * 86_400_000, 1_600, 590),  # a clock a year off
    ],
)
def test_a_clock_is_believed_only_where_the_brokers_agree(occurred, received, expected):
    outcome = happened("won", at=occurred, received=received)
    assert delay_ms(DECIDED, outcome) == expected


def test_an_end_or_enough_outcomes_close_a_decision():
    reward = Reward({"won": 1.0}, window=seconds(10), closes_after=2)
    assert not reward.closed_early([], 1)
    assert reward.closed_early([], 2)
    assert reward.closed_early([happened("x", at=2_000, kind="end")], 0)


def test_a_function_of_the_outcomes_can_be_the_reward():
    def streak(outcomes: list[TimedOutcome]) -> float:
        return float(len(outcomes) ** 2)

    reward = Reward(streak, window=seconds(10))
    outcomes = [happened("won", at=2_000), happened("won", at=3_000)]
    assert reward.value(reward.counted(DECIDED, outcomes)) == 4.0
    assert "streak(outcomes)" in reward.in_words()


@given(st.permutations([happened("a", at=2_000 + 7 * i, value=i / 3) for i in range(5)]))
def test_the_order_in_which_outcomes_are_known_changes_nothing(outcomes):
    reward = Reward({"a": 1.5}, window=seconds(10), aggregate="sum")
    expected = reward.value(reward.counted(DECIDED, sorted(outcomes)))
    assert reward.value(reward.counted(DECIDED, outcomes)) == expected


def test_where_activation_is_asked_for_a_decision_counts_once_it_was_seen():
    rule = Reward({"won": 1.0}, window=seconds(10), activation=True)
    decided = DecisionTimes(0, 0)

    def said(kind: str, after_ms: int) -> TimedOutcome:
        return TimedOutcome(f"{kind}-{after_ms}", kind, None, None, after_ms, after_ms)

    assert not rule.is_active(decided, [])
    assert not rule.is_active(decided, [said("reward", 500)])
    assert rule.is_active(decided, [said("reward", 500), said("activated", 700)])
    assert not rule.is_active(decided, [said("activated", 10_001)])
    assert Reward({"won": 1.0}, window=seconds(10)).is_active(decided, [])


def test_the_rule_of_a_function_has_the_same_fingerprint_in_every_process():
    program = (
        "from datetime import timedelta\n"
        "from bakehouse_schemas.application.reward import Reward\n"
        "def rule(outcomes):\n"
        "    name = outcomes[0].name\n"
        "    return name in {'lost', 'left', 'quit', 'away', 'gone'} or sum(\n"
        "        o.name in {'won', 'paid', 'liked', 'shared', 'stayed'} for o in outcomes)\n"
        "print(Reward(rule, window=timedelta(seconds=1)).fingerprint)"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(told) == 1
