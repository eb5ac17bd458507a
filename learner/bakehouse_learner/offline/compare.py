"""`python -m bakehouse_learner.offline.compare REF --agents a,b`: which agent learns this
application best?

In the application's world, if it has one, in virtual time; else from history, by what is held
out of it. Prints one line of JSON; `bakehouse compare` makes a table of it.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bakehouse_learner.agents.load import load_agents
from bakehouse_learner.offline.candidates import candidates_of
from bakehouse_learner.offline.console import run_program, say
from bakehouse_learner.offline.history.history import read_history
from bakehouse_learner.offline.simulation.simulation import Point, Result, simulate
from bakehouse_learner.offline.training.held_out import evaluate_held_out
from bakehouse_learner.offline.training.train_on_history import train_on_history
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import load_settings
from bakehouse_schemas.worlds.share import share
from bakehouse_schemas.worlds.world import World

ENOUGH = 0.85  # of the way to the best: how soon?
TELL_EVERY_S = 2.0
GRID = 40  # points of a learning curve
HELD_OUT = 0.2
PICTURES = (".png", ".svg", ".pdf")
Build = Callable[[Setup], TrainableAgent]


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Every agent's marks, the best first.

    Raises:
        BakehouseError: an agent does not fit, there is neither a world nor a history, or the
            picture is of no kind that is drawn.
    """
    if options.plot is not None and options.plot.suffix.lower() not in PICTURES:
        raise BakehouseError(
            f"--plot {options.plot}: expected a file that ends in {', '.join(PICTURES)}; nothing "
            "was compared"
        )
    loaded = load_application(options.ref)
    candidates = candidates_of(options, loaded.application)
    by_world = loaded.world is not None and options.source is None
    answer: dict[str, Any] = {
        "application": loaded.application.name,
        "by": "world" if by_world else "history",
        "plot": None if options.plot is None else str(options.plot.resolve()),
    }
    if by_world:
        assert loaded.world is not None
        answer |= {
            "decisions": options.decisions,
            "seeds": options.seeds,
            "rate_per_s": options.rate,
        }
        answer |= in_world(candidates, loaded.world, load_agents(), options)
    else:
        answer |= on_history(candidates, options, load_agents)
    if options.plot is not None:
        from bakehouse_learner.offline.plots.learning_curves import (
            draw,  # matplotlib takes a second
        )

        draw(answer, options.plot)
    return answer


def in_world(
    candidates: dict[str, Application], world: World, build: Build, options: argparse.Namespace
) -> dict[str, Any]:
    """Learning in the world: every agent with every seed, the same players for all."""
    progress = _Progress(len(candidates) * options.seeds * options.decisions)
    agents, rules = [], []
    for name, application in candidates.items():
        results = []
        for seed in range(options.seeds):
            results.append(
                simulate(
                    application,
                    world,
                    build,
                    decisions=options.decisions,
                    rate_per_s=options.rate,
                    seed=seed,
                    on_step=progress.of(name, seed),
                )
            )
            progress.done(options.decisions)
        agents.append(marks(name, results))
        rules += [share(r.values, of="baseline") for r in results if r.values is not None]
    agents.sort(key=lambda one: -one["share"]["median"])
    known = [rule for rule in rules if rule is not None]
    return {"baseline_share": median(known) if known else None, "agents": agents}


def marks(name: str, results: Sequence[Result]) -> dict[str, Any]:
    """One agent's, over its seeds."""
    shares = [result.share if result.share is not None else 0.0 for result in results]
    until = [result.decisions_until(ENOUGH) for result in results]
    middle = median([math.inf if one is None else float(one) for one in until])
    rates = [r.minibatches_per_s for r in results if np.isfinite(r.minibatches_per_s)]
    left = [result.left_version_0 for result in results]
    return {
        "agent": name,
        "share": {
            "median": median(shares),
            "least": min(shares),
            "most": max(shares),
            "by_seed": shares,
        },
        "decisions_until": {
            "share": ENOUGH,
            "median": middle if math.isfinite(middle) else None,
            "by_seed": until,
        },
        "left_version_0": left,
        "minibatches_per_s": median(rates) if rates else None,
        "wall_s": median(result.wall_s for result in results),
        "curve": curve(results),
    }


def curve(results: Sequence[Result]) -> list[dict[str, float]]:
    """Share by decisions made, over the seeds."""
    tracks = []
    for result in results:
        told = [
            (point.decisions, point.share) for point in result.points if point.share is not None
        ]
        if told:
            tracks.append(np.array(told, dtype=float).T)
    if not tracks:
        return []
    grid = np.linspace(
        max(track[0][0] for track in tracks), min(track[0][-1] for track in tracks), GRID
    )
    values = np.array([np.interp(grid, track[0], track[1]) for track in tracks])  # [seeds, GRID]
    return [
        {
            "decisions": round(float(at)),
            "median": float(np.median(column)),
            "least": float(column.min()),
            "most": float(column.max()),
        }
        for at, column in zip(grid, values.T, strict=True)
    ]


def on_history(
    candidates: dict[str, Application],
    options: argparse.Namespace,
    load: Callable[[], Build],
) -> dict[str, Any]:
    """Learning from a log, judged by the newest part of it, which none has learned from."""
    settings = load_settings()
    given = options.source or "replay"
    source = settings.tables if given == "replay" else given
    history = read_history(next(iter(candidates.values())), source)
    build = load()
    agents: list[dict[str, Any]] = []
    for at, (name, application) in enumerate(candidates.items()):
        say(f"{name}: {at + 1} of {len(candidates)}")
        began = time.monotonic()
        with_rewards = replace(application, reward=history.application.reward)
        mine = history._replace(application=with_rewards)
        trained = train_on_history(mine, build, held_out=HELD_OUT)
        spent = time.monotonic() - began
        found = evaluate_held_out(mine, trained)
        agents.append(
            {
                "agent": name,
                "value": None if found is None else found["policies"][0]["estimates"][0],
                "verdict": None if found is None else found["policies"][0]["verdict"],
                "against_baseline": (
                    None if found is None else found["differences"][0]["estimates"][0]
                ),
                "minibatches_per_s": trained.minibatches / spent,
                "wall_s": time.monotonic() - began,
            }
        )
    agents.sort(key=lambda one: -(one["value"] or {"mean": float("-inf")})["mean"])
    return {"source": str(source), "notes": list(history.notes), "agents": agents}


class _Progress:
    """Lines on standard error, every few seconds, with the time left."""

    def __init__(self, decisions: int) -> None:
        self._all, self._before = decisions, 0
        self._began = time.monotonic()
        self._told = self._began

    def of(self, name: str, seed: int) -> Callable[[Point], None]:
        """What one simulation is to tell."""

        def tell(point: Point) -> None:
            now = time.monotonic()
            if now - self._told < TELL_EVERY_S:
                return
            self._told = now
            done = self._before + point.decisions
            left_s = (now - self._began) * (self._all - done) / done
            told = "" if point.share is None else f", share {point.share:.2f}"
            say(
                f"{name}, seed {seed}: {point.decisions:,} decisions{told}; {left_s:.0f} s left "
                "in all"
            )

        return tell

    def done(self, decisions: int) -> None:
        """One simulation has ended."""
        self._before += decisions


def command_line() -> argparse.ArgumentParser:
    """The arguments that this program takes."""
    parser = argparse.ArgumentParser(prog="bakehouse_learner.offline.compare")
    parser.add_argument("ref")
    parser.add_argument("--agents", default="")
    parser.add_argument("--decisions", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--from", dest="source")
    parser.add_argument("--plot", type=Path)
    return parser


if __name__ == "__main__":
    raise SystemExit(run_program(compare, command_line()))
