"""How to measure on a noisy machine: in one run, in alternation, CPU time, medians and ratios."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What every benchmark is told."""

    quick: bool  # a shorter run that shows that it works; its numbers mean little
    scratch: Path  # an empty folder for all that the run writes
    say: Callable[[str], None] = lambda words: print(words, file=sys.stderr, flush=True)

    def sized(self, full: T, quick: T) -> T:
        """`full`, or `quick` in a quick run."""
        return quick if self.quick else full


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, that a process has used so far, all its threads included.

    Linux keeps a clock for each process with nanoseconds; elsewhere psutil's (10 ms) serves.
    """
    if pid == os.getpid():
        return time.process_time()
    try:
        return time.clock_gettime(~pid << 3 | 2)  # what clock_getcpuclockid(3) returns
    except OSError:
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)


def tree_cpu_s(pid: int) -> float:
    """CPU seconds of a process and all below it, those that ended and were waited for included."""
    total = 0.0
    try:
        parent = psutil.Process(pid)
        processes = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for process in processes:
        try:
            times = process.cpu_times()
            total += cpu_s(process.pid) + times.children_user + times.children_system
        except (psutil.NoSuchProcess, OSError):
            continue  # it ended between the two looks
    return total


def memory_mb(pid: int) -> float:
    """Memory that only this process holds, in MiB (USS: shared libraries are not counted)."""
    return float(psutil.Process(pid).memory_full_info().uss) / (1 << 20)


def tree_memory_mb(pid: int) -> float:
    """Resident memory of a process and all below it, in MiB; shared pages count once (PSS)."""
    total = 0.0
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        try:
            total += process.memory_full_info().pss / (1 << 20)
        except psutil.NoSuchProcess:
            continue
    return total


def alternate(
    rounds: int, contenders: Mapping[str, Callable[[], T]], *, after: Callable[[str, T], None]
) -> dict[str, list[T]]:
    """Run every contender once a round, turning the order round each time.

    What drifts (a warmer machine, a neighbour) then meets all of them alike.
    """
    results: dict[str, list[T]] = {name: [] for name in contenders}
    for at in range(rounds):
        names = list(contenders)[:: 1 if at % 2 == 0 else -1]
        for name in names:
            result = contenders[name]()
            results[name].append(result)
            after(f"round {at + 1} of {rounds}, {name}", result)
    return results


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed; NaN of none."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Iterable[float]) -> float:
    """The middle value (of two, their mean); NaN of none."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def median_ratio(tops: Sequence[float], bottoms: Sequence[float]) -> float:
    """Median over rounds of top / bottom, each pair measured side by side."""
    return median(top / bottom for top, bottom in zip(tops, bottoms, strict=True))


def rounded(value: Any, digits: int = 4) -> Any:
    """The same value with floats to `digits` significant digits; NaN becomes None."""
    if isinstance(value, Mapping):
        return {str(name): rounded(item, digits) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item, digits) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value


@dataclass
class Cost:
    """CPU and wall seconds that something took."""

    cpu_s: float = math.nan
    wall_s: float = math.nan
    details: dict[str, float] = field(default_factory=dict)


@contextmanager
def cost_of(pid: int) -> Iterator[Cost]:
    """Measures a process while the block runs; the numbers are there afterwards."""
    cost = Cost()
    wall, cpu = time.perf_counter(), cpu_s(pid)
    yield cost
    cost.cpu_s, cost.wall_s = cpu_s(pid) - cpu, time.perf_counter() - wall


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll until it holds.

    Raises:
        TimeoutError: saying what did not come.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {timeout_s:.0f} s")
        time.sleep(0.02)  # between two looks at the condition
