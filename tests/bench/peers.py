"""Our DQN beside Stable-Baselines3's and TF-Agents' usual loop, minibatches of 256.

Equal for all three: 50,000 random transitions of one step (16 numbers, 4 actions, three in ten
terminal) in the buffer, a Q network 16 → 64 → 64 → 4 with ReLU, Adam at 1e-3, γ = 0.97, a target
copied every 50 steps, gradients cut at norm 10, the CPU; rows are drawn and copied within what is
measured, and what compiles or warms up is not.

Not equal: ours and TF-Agents' are double DQN with squared errors, Stable-Baselines3 has neither
(one pass through the network less; Huber's loss), and it stores and copies rows its own way. Ours
alone masks actions, weighs rows, follows the rewards' scale and has a ridge; it takes 20
minibatches a call, one thread. `TF-Agents' usual loop` is one call of
`common.function(agent.train)` for each minibatch that a Python iterator gives, as NumPy arrays
that become tensors.

Each is a process of its own, all alive, one working at a time. A peer runs twice, with as many
threads as its library likes and with one; ours is held against the faster of the two.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.bench.measure import Cost, Options, alternate, median, median_ratio

OURS = "dqn"
PEERS = ("sb3", "tf_agents_loop")
NEEDED = {"sb3": ("torch", "stable_baselines3")}  # what is no part of the default install
# whole rounds of every contender's call, and about as long for each
MINIBATCHES = {"dqn": 2_000, "sb3": 400, "tf_agents_loop": 400}
QUICK = {"dqn": 100, "sb3": 50, "tf_agents_loop": 50}
THREADS = {"": None, "_one_thread": 1}  # suffix of the name → threads, None: the library's choice

Takes = Callable[[int], Cost]


def compared(options: Options) -> dict[str, Any]:
    """Measure; see the module."""
    counts = options.sized(MINIBATCHES, QUICK)
    absent = missing()
    for words in absent.values():
        options.say(words)
    with ExitStack() as running:
        contenders: dict[str, Callable[[], Cost]] = {}
        for name in (OURS, *(peer for peer in PEERS if peer not in absent)):
            for suffix, threads in {"": 1}.items() if name == OURS else THREADS.items():
                takes = running.enter_context(contender(name, threads, options.scratch))
                contenders[name + suffix] = partial(takes, counts[name])
        costs = alternate(
            options.sized(5, 2),
            contenders,
            after=lambda what, c: options.say(
                f"{what}: {c.details['minibatches'] / c.wall_s:.0f} minibatches a second"
            ),
        )
    return report(costs) | {"not_compared": absent}


def missing(found: Callable[[str], Any] = find_spec) -> dict[str, str]:
    """Peers whose packages are not installed, and what to do about it."""
    return {
        peer: f"{peer} is not compared: {' and '.join(packages)} are not installed. They are the "
        "dependency group `peers`: uv run --group peers python -m tests.bench learn"
        for peer, packages in NEEDED.items()
        if any(found(package) is None for package in packages)
    }


def report(costs: Mapping[str, list[Cost]]) -> dict[str, Any]:
    """Rates of all, and ratios of ours to each peer at its faster setting; NaN where it is absent.

    Args:
        costs: by contender, round by round; `details["minibatches"]` says how many were taken.
    """
    rates = {
        name: [c.details["minibatches"] / c.wall_s for c in found] for name, found in costs.items()
    }
    cpu_us = {
        name: [c.cpu_s / c.details["minibatches"] * 1e6 for c in found]
        for name, found in costs.items()
    }
    result: dict[str, Any] = {}
    for peer in PEERS:
        settings = [name for name in costs if name.startswith(peer)]
        best = max(settings, key=lambda name: median(rates[name]), default=None)
        thrifty = min(settings, key=lambda name: median(cpu_us[name]), default=None)
        result[f"dqn_over_{peer}"] = median_ratio(rates[OURS], rates[best]) if best else math.nan
        result[f"{peer}_cpu_over_dqn"] = (
            median_ratio(cpu_us[thrifty], cpu_us[OURS]) if thrifty else math.nan
        )
    result["contenders"] = {
        name: {
            "minibatches_per_s": median(rates[name]),
            "cpu_per_minibatch_us": median(cpu_us[name]),
        }
        for name in costs
    }
    return result


@contextmanager
def contender(name: str, threads: int | None, scratch: Path) -> Iterator[Takes]:
    """A process of `tests.bench.contender`, warm: a function that has it take some minibatches.

    Raises:
        RuntimeError: it ended; what it last said is in the message.
    """
    log = scratch / f"{name}-{threads}.log"
    command = [sys.executable, "-m", "tests.bench.contender", name]
    if threads is not None:
        command += ["--threads", str(threads)]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )

    def answer() -> Any:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            said = log.read_text(errors="replace")[-2_000:]
            raise RuntimeError(f"{' '.join(command)} ended, so nothing is compared: {said}")
        return json.loads(line)

    def take(minibatches: int) -> Cost:
        assert process.stdin is not None
        print(minibatches, file=process.stdin, flush=True)
        cpu_s, wall_s = answer()
        return Cost(cpu_s, wall_s, {"minibatches": minibatches})

    try:
        answer()  # ready
        yield take
    finally:
        process.terminate()
        process.communicate()
