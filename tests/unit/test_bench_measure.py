"""What the benchmarks measure with."""

import json
import math
import os
import subprocess
import sys

import pytest

from tests.bench.client import request_bytes, split_response
from tests.bench.measure import (
    alternate,
    cost_of,
    cpu_s,
    median,
    median_ratio,
    percentile,
    rounded,
    wait_until,
)


def test_a_percentile_is_a_value_that_so_many_do_not_exceed():
    values = [float(n) for n in range(1, 101)]
    assert percentile(values, 0.99) == 99.0
    assert percentile(values, 0.5) == 50.0
    assert percentile([7.0], 0.01) == 7.0
    assert math.isnan(percentile([], 0.5))


def test_a_median_of_two_is_their_mean():
    assert median([3.0, 1.0]) == 2.0
    assert median([9.0, 1.0, 2.0]) == 2.0
    assert math.isnan(median([]))


def test_a_ratio_is_taken_within_each_round_before_the_median():
    # the machine slowed down fourfold in the second round; both sides felt it
    assert median_ratio([1.0, 4.0, 1.0], [2.0, 8.0, 2.0]) == 0.5


def test_contenders_turn_their_order_round_every_time():
    order: list[str] = []
    results = alternate(
        3,
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")},
        after=lambda what, result: None,
    )
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert {name: len(found) for name, found in results.items()} == {"a": 3, "b": 3}


def test_cpu_time_of_another_process_is_what_it_used_and_not_how_long_it_was_there():
    busy = "import time\nwhile time.process_time() < 0.2: pass\nprint('done', flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        used = cpu_s(process.pid)
        assert used >= 0.2
        assert cpu_s(process.pid) - used < 0.1  # it waits now
        process.communicate(b"\n")


def test_a_cost_is_there_once_the_block_is_done():
    with cost_of(os.getpid()) as cost:
        assert math.isnan(cost.cpu_s)
        sum(range(100_000))
    assert cost.cpu_s > 0
    assert cost.wall_s > 0


def test_results_are_json_even_where_nothing_was_measured():
    result = rounded({"a": math.nan, 20: [1.23456789], "b": {"c": (2, "x")}})
    assert json.loads(json.dumps(result, allow_nan=False)) == {
        "a": None,
        "20": [1.235],
        "b": {"c": [2, "x"]},
    }


def test_what_does_not_come_is_named():
    with pytest.raises(TimeoutError, match="the bus"):
        wait_until(lambda: False, 0.0, "the bus")


def test_a_response_is_read_once_it_is_whole():
    whole = b"HTTP/1.1 422 Unprocessable\r\nContent-Length: 4\r\nx: y\r\n\r\nbody"
    for cut in range(len(whole)):
        assert split_response(whole[:cut]) is None
    assert split_response(whole + b"HTTP/1.1") == (422, b"body", len(whole))


def test_a_request_says_how_long_its_body_is():
    assert request_bytes("/x", b"12345").endswith(b"content-length: 5\r\n\r\n12345")


def test_every_benchmark_explains_itself():
    said = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for name in ("decide", "publish", "join", "learn", "freshness", "swap", "loop", "age"):
        assert f"\n    {name}" in said
    said = subprocess.run(
        [sys.executable, "-m", "tests.bench", "decide", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "cpu_ratio" in said
