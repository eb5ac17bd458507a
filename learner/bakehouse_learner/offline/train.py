"""`python -m bakehouse_learner.offline.train REF --from …`: trains from history; leaves a bundle
and a warm start.

Prints one line of JSON; `bakehouse train` makes words of it. Exit status 2, and a line with
`error` and `message`, for what cannot be done.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bakehouse_learner.agents.load import load_agents
from bakehouse_learner.artifacts.bundles import Bundles
from bakehouse_learner.artifacts.warm_start import leave_warm_start, warm_start_of
from bakehouse_learner.offline.evaluation.policy_value import material
from bakehouse_learner.offline.evaluation.report import Asked, report
from bakehouse_learner.offline.evaluation.target_policies import Target, find_target
from bakehouse_learner.offline.history.history import History, read_history
from bakehouse_learner.offline.training.train_on_history import Progress, Trained, train_on_history
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import load_settings

CONFIDENCE = 0.95
TELL_EVERY_S = 1.0


def main(arguments: Sequence[str]) -> int:
    """Answer on standard output, progress on standard error; 0, or 2 with the reason."""
    try:
        answer = train(_parser().parse_args(arguments))
    except BakehouseError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))  # noqa: T201
        return 2
    print(json.dumps(answer, ensure_ascii=False, allow_nan=False))  # noqa: T201
    return 0


def train(asked: argparse.Namespace) -> dict[str, Any]:
    """What was learned, what it is worth, and where it lies.

    Raises:
        BakehouseError: the history cannot be read, or nothing can be learned from it.
    """
    if not 0 <= asked.held_out <= 0.9:
        raise BakehouseError(f"held out {asked.held_out}: expected from 0 to 0.9 of the decisions")
    began = time.monotonic()
    settings = load_settings()
    application = load_application(asked.ref).application
    source = settings.tables if asked.source == "replay" else asked.source
    history = read_history(application, source)
    say(f"read {len(history.arrivals):,} rows from {source}")
    for note in history.notes:
        say(f"note: {note}")
    trained = train_on_history(
        history, load_agents(), held_out=asked.held_out, steps=asked.steps, on_progress=_told()
    )
    folder = settings.home / "learner" / application.name
    out = asked.out or folder / "trained"
    bundle = _write(application, trained, out)
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
        "evaluation": judged(history, trained) if asked.held_out > 0 else None,
        "warm_start": None,
    }
    if asked.out is None or asked.home:
        state = warm_start_of(trained.learning, history.arrivals, application, timed=history.timed)
        answer["warm_start"] = str(leave_warm_start(folder, state))
    answer["seconds"] = round(time.monotonic() - began, 1)
    return answer


def judged(history: History, trained: Trained) -> dict[str, Any] | None:
    """What the policy, the rules and chance would have earned on what was held out.

    See `bakehouse_learner.offline.evaluation.report`; None where nothing that was held out can be
    used.
    """
    application = history.application
    with tempfile.TemporaryDirectory() as policies:
        targets = [
            target_of(history, trained, Path(policies)),
            *(find_target(name, application, Path(policies)) for name in ("baseline", "random")),
        ]
    after_ms = trained.held_out_from_ms - 1
    found = material(history.ring(), application, targets, after_ms=after_ms)
    if found.logged.n == 0:
        return None
    return report(found, targets, [0.0] * len(targets), Asked(CONFIDENCE, 0))


def target_of(history: History, trained: Trained, folder: Path, *, greedy: bool = False) -> Target:
    """What was trained, as a policy that may be judged. Its bundle is written to the folder."""
    _write(history.application, trained, folder)
    target = find_target("1", history.application, folder, greedy=greedy)
    return target._replace(name="trained")


def _write(application: Application, trained: Trained, out: Path) -> Path:
    """The bundle, as version 1 of a line of its own."""
    bundles = Bundles(out, application, kept=1)
    bundles.write(
        trained.candidate,
        lineage=trained.learning.lineage,
        anchor=0,
        previous=0,
        at_ms=time.time_ns() // 1_000_000,
    )
    return bundles.folder / str(trained.candidate.version)


def _told() -> Any:
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


def say(words: str) -> None:
    """A line for people who wait."""
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bakehouse_learner.offline.train")
    parser.add_argument("ref")
    parser.add_argument("--from", dest="source", default="replay")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--held-out", type=float, default=0.2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--home", action="store_true", help="leave a warm start in the home")
    return parser


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
