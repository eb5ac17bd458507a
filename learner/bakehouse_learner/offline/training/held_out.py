"""What is a policy that was trained from history worth, on the decisions that were held out?"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from bakehouse_learner.artifacts.bundles import Bundles
from bakehouse_learner.offline.evaluation.policy_value import material
from bakehouse_learner.offline.evaluation.report import ReportSettings, report
from bakehouse_learner.offline.evaluation.target_policies import Target, find_target
from bakehouse_learner.offline.history.history import History
from bakehouse_learner.offline.training.train_on_history import Trained
from bakehouse_schemas.application.application import Application

CONFIDENCE = 0.95


def evaluate_held_out(history: History, trained: Trained) -> dict[str, Any] | None:
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
    return report(found, targets, [0.0] * len(targets), ReportSettings(CONFIDENCE, 0))


def target_of(history: History, trained: Trained, folder: Path, *, greedy: bool = False) -> Target:
    """What was trained, as a policy that may be judged. Its bundle is written to the folder."""
    write_trained(history.application, trained, folder)
    target = find_target("1", history.application, folder, greedy=greedy)
    return target._replace(name="trained")


def write_trained(application: Application, trained: Trained, out: Path) -> Path:
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
