"""`python -m bakehouse_learner.offline.evaluate REF …`: what a policy would have earned, from what
is logged.

Prints one line of JSON; `bakehouse evaluate` makes a table of it. Exit status 2, and a line with
`error` and `message`, for what cannot be answered.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

import numpy as np

from bakehouse_learner.offline.console import run_program
from bakehouse_learner.offline.evaluation.policy_value import material
from bakehouse_learner.offline.evaluation.report import ReportSettings, report
from bakehouse_learner.offline.evaluation.target_policies import Target, find_target
from bakehouse_learner.offline.history.history import History, read_history
from bakehouse_learner.ope.segments import segments
from bakehouse_learner.replay.ring import Ring
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import load_settings


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """The report of `bakehouse_learner.offline.evaluation.report`, and of what.

    Raises:
        BakehouseError: a policy, the history or the field is not there, or nothing can be used.
    """
    if not 0.5 <= options.confidence < 1:
        raise BakehouseError(f"confidence {options.confidence}: expected from 0.5 to below 1")
    settings = load_settings()
    application = load_application(options.ref).application
    targets = _targets(options, application, settings.policies / application.name)
    sized = replace(application, training=replace(application.training, buffer=options.limit))
    source = options.source or settings.tables
    history = read_history(sized, source, contexts=options.segment is not None)
    ring = history.ring()
    learned = [target.learned_until_ms for target in targets]
    judged = learned[0]
    after_ms = judged if options.unseen and judged is not None else -1
    found = material(ring, history.application, targets, after_ms=after_ms)
    if found.logged.n == 0:
        reasons = "; ".join(f"{n:,} {why}" for why, n in found.left_out.items() if n)
        raise BakehouseError(
            f"nothing in {source} can judge a policy of {application.name!r}: of "
            f"{found.decisions:,} decisions, no {found.units} are left ({reasons})"
        )
    received = ring.received_at_ms[found.slots]
    segment = None
    if options.segment is not None:
        segment = _segment(options.segment, history, ring, found.slots)
    answer = report(
        found,
        targets,
        [0.0 if until is None else float(np.mean(received <= until)) for until in learned],
        ReportSettings(options.confidence, options.bootstrap),
        segment=segment,
    )
    answer["warnings"] += history.notes
    return {"application": application.name, "source": str(source)} | answer


def _targets(options: argparse.Namespace, application: Application, policies: Any) -> list[Target]:
    """The one that is judged, then those it is compared with, each policy once."""
    names = [options.policy, *(name.strip() for name in options.against.split(",") if name.strip())]
    targets: list[Target] = []
    for name in names:
        target = find_target(
            name, application, policies, champion=options.champion, greedy=options.greedy
        )
        same = [
            t
            for t in targets
            if t.name == name or (target.version is not None and t.version == target.version)
        ]
        if not same:
            targets.append(target)
    return targets


def _segment(
    field: str, history: History, ring: Ring, slots: np.ndarray
) -> tuple[str, dict[str, np.ndarray]]:
    texts = (history.contexts.get(ring.ids[int(slot)], "{}") for slot in slots)
    contexts = [json.loads(text) for text in texts]
    if not any(field in context for context in contexts):
        known = sorted({name for context in contexts for name in context})
        raise BakehouseError(
            f"no context has the field {field!r}; there are {', '.join(known) or 'no fields'}"
        )
    return field, segments([context.get(field) for context in contexts])


def command_line() -> argparse.ArgumentParser:
    """The arguments that this program takes."""
    parser = argparse.ArgumentParser(prog="bakehouse_learner.offline.evaluate")
    parser.add_argument("ref")
    parser.add_argument("--policy", default="champion")
    parser.add_argument("--against", default="baseline,champion,random")
    parser.add_argument("--champion", type=int)
    parser.add_argument("--from", dest="source")
    parser.add_argument("--segment")
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--bootstrap", type=int, default=0)
    parser.add_argument("--limit", type=int, default=200_000)
    parser.add_argument("--greedy", action="store_true")
    parser.add_argument("--unseen", action="store_true")
    return parser


if __name__ == "__main__":
    raise SystemExit(run_program(evaluate, command_line()))
