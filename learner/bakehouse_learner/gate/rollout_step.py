"""To how many subjects does a candidate go? Step by step, and back where it falls behind. Pure."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import NamedTuple

from bakehouse_learner.gate.report import Evidence, GateReport
from bakehouse_learner.gate.rollout import RolloutSteps
from bakehouse_learner.statistics.recent_mean import REMEMBERED, RecentMean
from bakehouse_learner.training.apprentice import DECISIONS_TO_COUNT, MATCH_SLACK
from bakehouse_schemas.application.application import Application


class Advanced(NamedTuple):
    """A rollout after a candidate was reviewed."""

    report: GateReport  # with the share of subjects that the candidate is to answer
    steps: RolloutSteps
    match: RecentMean  # begins again with a step back


def advance_rollout(
    report: GateReport,
    evidence: Evidence,
    *,
    steps: RolloutSteps,
    match: RecentMean,
    application: Application,
    apprentice: bool,
) -> Advanced:
    """Take the step that is due, forward or back; nothing that is passed in changes.

    Args:
        report: of the gate, which lets the candidate pass or does not.
        steps: where the rollout stands.
        match: rate at which an apprentice matches the rules.
        apprentice: it learns to match them.
    """
    steps, version, wanted = copy(steps), report.candidate, application.rollout.match
    if report.leaves_version_0:
        steps.forward(version)
    elif report.rollback_to == 0:
        steps.stop()
    elif report.rollback_to is not None:
        steps.back(version)
    elif report.publish and apprentice and _falls_behind(match, wanted):
        steps.back(version)
        words = _match_words(match, wanted)
        # what the policy answers from here on, that alone, says what comes next
        match = RecentMean()
        if steps.step < 0:
            stopped = replace(
                report,
                publish=False,
                new_anchor=False,
                rollback_to=0,
                reason=f"{words}: the baseline answers again",
            )
            return Advanced(stopped, steps, match)
        report = replace(report, reason=f"a step back: {words}")
    elif report.publish and steps.is_due():
        ready = not apprentice or (match.n >= DECISIONS_TO_COUNT and match.mean >= wanted)
        if ready and _nothing_against(evidence, application.gate.margin):
            steps.forward(version)
            report = replace(
                report, reason=f"widened to {steps.share:.0%} of subjects; {report.reason}"
            )
    canary = steps.share if steps.step >= 0 else 1.0
    return Advanced(replace(report, canary=canary), steps, match)


def _falls_behind(match: RecentMean, wanted: float) -> bool:
    """Whether an apprentice no longer matches the rules."""
    return match.n >= REMEMBERED and match.mean < wanted - MATCH_SLACK


def _match_words(match: RecentMean, wanted: float) -> str:
    return f"match with the baseline {match.mean:.1%}, wanted {wanted:.1%}"


def _nothing_against(evidence: Evidence, margin: float) -> bool:
    """Whether what is known of the policy lets more subjects have it."""
    running, worst = evidence.running, -margin * evidence.scale
    # a bound would ask a canary of few subjects to prove what only many can
    return running.upper >= 0 and running.mean >= worst
