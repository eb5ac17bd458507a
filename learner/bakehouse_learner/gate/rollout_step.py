"""To how many subjects a candidate goes: step by step, and back where it falls behind.

Pure but for the steps themselves, which it takes, and for an apprentice's rate of matches, which
begins anew with a step back.
"""

from __future__ import annotations

from dataclasses import replace

from bakehouse_learner.gate.evidence import Collector
from bakehouse_learner.gate.rollout import Steps
from bakehouse_learner.gate.rules import Evidence, GateReport
from bakehouse_learner.statistics.recent_mean import REMEMBERED, RecentMean
from bakehouse_learner.training.apprentice import LEAST, SLACK
from bakehouse_schemas.application.application import Application


def widened(
    report: GateReport,
    evidence: Evidence,
    *,
    steps: Steps,
    collector: Collector,
    application: Application,
    apprentice: bool,
) -> GateReport:
    """The report with the share of subjects that the candidate is to answer.

    Args:
        report: of the gate, which lets the candidate pass or does not.
        steps: where the rollout stands; moved.
        collector: holds the rate at which an apprentice matches the rules.
        apprentice: it learns to match them.
    """
    version, match = report.candidate, collector.match
    wanted = application.rollout.match
    if report.leaves_version_0:
        steps.forward(version)
    elif report.rollback_to == 0:
        steps.stop()
    elif report.rollback_to is not None:
        steps.back(version)
    elif report.publish and apprentice and _falls_behind(match, wanted):
        steps.back(version)
        said = _match_words(match, wanted)
        # what the policy answers from here on, that alone, says what comes next
        collector.match = RecentMean()
        if steps.step < 0:
            return replace(
                report,
                publish=False,
                new_anchor=False,
                rollback_to=0,
                reason=f"{said}: the baseline answers again",
            )
        report = replace(report, reason=f"a step back: {said}")
    elif report.publish and steps.is_due():
        ready = not apprentice or (match.n >= LEAST and match.mean >= wanted)
        if ready and _nothing_against(evidence, application.gate.margin):
            steps.forward(version)
            report = replace(
                report, reason=f"widened to {steps.share:.0%} of subjects; {report.reason}"
            )
    return replace(report, canary=steps.share if steps.step >= 0 else 1.0)


def _falls_behind(match: RecentMean, wanted: float) -> bool:
    """Whether an apprentice no longer matches the rules."""
    return match.n >= REMEMBERED and match.mean < wanted - SLACK


def _match_words(match: RecentMean, wanted: float) -> str:
    return f"match with the baseline {match.mean:.1%}, wanted {wanted:.1%}"


def _nothing_against(evidence: Evidence, margin: float) -> bool:
    """Whether what is known of the policy lets more subjects have it."""
    running, worst = evidence.running, -margin * evidence.scale
    # a bound would ask a canary of few subjects to prove what only many can
    return running.upper >= 0 and running.mean >= worst
