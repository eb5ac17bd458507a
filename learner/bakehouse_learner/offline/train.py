"""`python -m bakehouse_learner.offline.train REF --from …`: trains from history; leaves a bundle
and a warm start.

Prints one line of JSON; `bakehouse train` makes words of it. Exit status 2, and a line with
`error` and `message`, for what cannot be done.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bakehouse_learner.agents.load import load_agents
from bakehouse_learner.artifacts.warm_start import leave_warm_start, warm_start_of
from bakehouse_learner.offline.console import run_program, say
from bakehouse_learner.offline.history.history import read_history
from bakehouse_learner.offline.training.held_out import evaluate_held_out, write_trained
from bakehouse_learner.offline.training.train_on_history import Progress, train_on_history
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import load_settings

TELL_EVERY_S = 1.0


def train(options: argparse.Namespace) -> dict[str, Any]:
    """What was learned, what it is worth, and where it lies.

    Raises:
        BakehouseError: the history cannot be read, or nothing can be learned from it.
    """
    if not 0 <= options.held_out <= 0.9:
        raise BakehouseError(
            f"held out {options.held_out}: expected from 0 to 0.9 of the decisions"
        )
    began = time.monotonic()
    settings = load_settings()
    application = load_application(options.ref).application
    source = settings.tables if options.source == "replay" else options.source
    history = read_history(application, source)
    say(f"read {len(history.arrivals):,} rows from {source}")
    for note in history.notes:
        say(f"note: {note}")
    trained = train_on_history(
        history,
        load_agents(),
        held_out=options.held_out,
        steps=options.steps,
        on_progress=_progress_lines(),
    )
    folder = settings.home / "learner" / application.name
    out = options.out or folder / "trained"
    bundle = write_trained(application, trained, out)
    answer: dict[str, Any] = {
        "application": application.name,
        "agent": application.agent.name,
        "source": str(source),
        "decisions": len({row.decision_id for row in history.arrivals}),
        "trained_on": trained.trained_on,
        "minibatches": trained.minibatches,
        "losses": trained.candidate.losses,
        "propensities": history.propensities,
        "notes": list(history.notes),
        "bundle": str(bundle),
        "evaluation": evaluate_held_out(history, trained) if options.held_out > 0 else None,
        "warm_start": None,
    }
    if options.out is None or options.home:
        state = warm_start_of(trained.learning, history.arrivals, application, timed=history.timed)
        answer["warm_start"] = str(leave_warm_start(folder, state))
    answer["seconds"] = round(time.monotonic() - began, 1)
    return answer


def _progress_lines() -> Callable[[Progress], None]:
    """Progress on standard error, about once a second."""
    last = 0.0

    def tell(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < TELL_EVERY_S and progress.minibatches < progress.of:
            return
        last = now
        losses = ", ".join(f"{name} {loss:.4g}" for name, loss in progress.losses.items())
        say(
            f"{progress.minibatches:,} of {progress.of:,} minibatches, {losses}, "
            f"{progress.seconds_left:.0f} s left"
        )

    return tell


def command_line() -> argparse.ArgumentParser:
    """The arguments that this program takes."""
    parser = argparse.ArgumentParser(prog="bakehouse_learner.offline.train")
    parser.add_argument("ref")
    parser.add_argument("--from", dest="source", default="replay")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--held-out", type=float, default=0.2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--home", action="store_true", help="leave a warm start in the home")
    return parser


if __name__ == "__main__":
    raise SystemExit(run_program(train, command_line()))
