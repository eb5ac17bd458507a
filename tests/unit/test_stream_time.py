"""Stream time advances with what has been applied, also when nothing flows, and then rests."""

from __future__ import annotations

from bakehouse_stream.kafka.stream_time import ALLOWANCE_MS, StreamTime, events_between

EMPTY = {"decisions": {"0": 0}}
ONE = {"decisions": {"0": 1}}


def test_time_moves_to_a_heartbeat_once_what_came_before_it_is_applied():
    time = StreamTime(horizon_ms=10_000)
    time.heartbeat(1_000, ONE)
    assert not time.advance(EMPTY, 3)
    assert time.now_ms == 0
    assert time.advance(ONE, 4)
    assert (time.now_ms, time.version) == (1_000 - ALLOWANCE_MS, 4)


def test_time_never_goes_back():
    time = StreamTime(horizon_ms=10_000)
    time.heartbeat(2_000, EMPTY)
    time.heartbeat(1_000, EMPTY)  # the broker's clock was set back
    time.advance(EMPTY, 1)
    assert time.now_ms == 2_000 - ALLOWANCE_MS
    assert not time.advance(EMPTY, 2)


def test_a_partition_that_nothing_was_read_of_holds_time_only_where_it_has_records():
    time = StreamTime(horizon_ms=10_000)
    time.heartbeat(1_000, {"decisions": {"0": 1, "1": 0}})
    assert time.advance(ONE, 1)
    time.heartbeat(2_000, {"decisions": {"0": 1, "1": 5}})
    assert not time.advance(ONE, 1)


def test_it_is_open_until_the_last_record_can_have_nothing_more_become_due():
    time = StreamTime(horizon_ms=10_000)
    assert time.is_open
    time.heartbeat(1_000, ONE)
    time.heartbeat(11_000 + ALLOWANCE_MS - 1, ONE)
    time.advance(ONE, 1)
    assert time.is_open
    time.heartbeat(11_000 + ALLOWANCE_MS, ONE)
    time.advance(ONE, 1)
    assert not time.is_open
    time.stir()
    assert time.is_open
    time.heartbeat(50_000, ONE)
    time.advance(ONE, 1)
    assert time.is_open


def test_what_lies_between_applied_and_the_ends_is_counted_partition_by_partition() -> None:
    ends = {"decisions": {"0": 10, "1": 4}, "outcomes": {"0": 7}}
    assert events_between({"decisions": {"0": 8, "1": 4}}, ends) == 2 + 7
    assert events_between({**ends, "outcomes": {"0": 9}}, ends) == 0
