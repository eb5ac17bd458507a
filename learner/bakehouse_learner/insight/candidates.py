"""What did each training make of it: why it ran, what the gate said, what changed since?"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from bakehouse_learner.gate.candidate import Candidate
from bakehouse_learner.insight.record import shortened
from bakehouse_learner.training.plan import Plan

KEPT = 60


def trigger_words(plan: Plan, new: int) -> str:
    """Why a training ran."""
    rows = f"{new:,} new row{'' if new == 1 else 's'}"
    return f"asked for by a person, {rows}" if plan.asked else f"cadence, {rows}"


class Candidates:
    """The last trainings, newest last."""

    def __init__(self) -> None:
        self._rows: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def add(self, candidate: Candidate, plan: Plan, mlflow_run: str | None) -> None:
        """Note a training.

        Args:
            mlflow_run: the run that is open now.
        """
        report = candidate.report.as_dict()
        before = self._rows[-1] if self._rows else None
        loss = _main(candidate.losses)
        # what lets a candidate leave version 0 is another estimate than what it is then held to
        leaving = report["current"] == 0
        prefix = "leaving_" if leaving and report["evidence"].get("leaving_n") else ""
        rules = [
            {name: rule[name] for name in ("name", "number", "threshold", "passed")}
            for rule in report["rules"]
        ]
        row = shortened(
            {
                "version": candidate.version,
                "at_ms": plan.at_ms,
                "published": candidate.report.publish,
                "reason": report["reason"],
                "trigger": trigger_words(plan, candidate.new_experiences),
                "rows": candidate.experiences,
                "new_rows": candidate.new_experiences,
                "losses": dict(candidate.losses),
                **{
                    name: report["evidence"].get(prefix + name)
                    for name in ("mean", "lower", "upper")
                },
                "effective_sample": report["evidence"].get("effective_sample"),
                "rules": rules,
                "mlflow_run": mlflow_run,
                "changed": {
                    "action_shift": _shift(rules),
                    "loss": _difference(loss, None if before is None else _main(before["losses"])),
                    "new_rows": candidate.new_experiences,
                    "exploration": _exploration(candidate),
                },
            }
        )
        self._rows.append(row)

    def figures(self, most: int = KEPT) -> Sequence[dict[str, Any]]:
        """As JSON carries it, newest first."""
        return list(self._rows)[::-1][:most]

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        return {"rows": list(self._rows)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the list that gave `state` had never stopped."""
        self._rows = deque(state["rows"], maxlen=KEPT)


def _main(losses: Mapping[str, float]) -> float | None:
    """The loss called `loss`, else the first."""
    return losses.get("loss", next(iter(losses.values()), None))


def _difference(now: float | None, before: float | None) -> float | None:
    if now is None or before is None or not math.isfinite(now - before):
        return None
    return now - before


def _shift(rules: Sequence[Mapping[str, Any]]) -> float | None:
    """Share of recent contexts in which another action is the most probable; the gate's own."""
    return next((rule["number"] for rule in rules if rule["name"] == "action shift"), None)


def _exploration(candidate: Candidate) -> float | None:
    """What of the candidate's exploration changes over time: ε, a spread or a temperature."""
    exploration = candidate.exploration
    if exploration.kind == "gaussian":
        return exploration.std
    return exploration.temperature if exploration.kind == "softmax" else exploration.epsilon
