"""What was seen of one candidate, and what is said of it?

The gate holds what was seen against its rules. Two things overrule it: a policy of an earlier life
answers until a candidate has shown itself, and nobody gets in while anything is frozen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bakehouse_learner.gate.action_probabilities import distribution_of
from bakehouse_learner.gate.deployment import Standing
from bakehouse_learner.gate.evidence import Collector
from bakehouse_learner.gate.guardrails import broken
from bakehouse_learner.gate.rollout_step import widened
from bakehouse_learner.gate.rules import Evidence, GateReport, action_shift, decide, score_limit
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.training.apprentice import LEAST
from bakehouse_learner.training.plan import Plan
from bakehouse_schemas.application.application import Application, Episodic
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.policy.policy import Policy

RECENT = 256  # contexts on which an action shift is measured


def report_on(
    plan: Plan,
    policy: Policy | None,
    *,
    newest: Policy | None,
    losses: Mapping[str, float],
    golden_scores: np.ndarray,
    application: Application,
    ring: Ring,
    collector: Collector,
    standing: Standing,
    exploration: Exploration,
) -> GateReport:
    """What becomes of the candidate of a plan. It is still to be carried out, but for two things:
    the rollout's step is taken, and who has shown itself need not do so again.

    Args:
        policy: the candidate; None: it has left the reals.
        newest: the last that had not; it is what evidence is about.
        losses: of the training that made it, by name.
        golden_scores: the candidate's, float `[G, A]`
        exploration: with which it would be executed.
    """
    evidence = _seen(plan, newest, application, collector, standing, exploration)
    report = decide(
        application.gate,
        candidate=plan.version,
        current=standing.current.number,
        anchor=standing.anchor.number,
        losses=losses,
        golden_scores=golden_scores,
        largest_score=_largest_score(policy, application, collector),
        shift=_shift(policy, ring, standing.current.policy),
        evidence=evidence,
    )
    if standing.proving and report.publish:
        report = _proven(report, evidence, standing, margin=application.gate.margin)
    # a freeze keeps candidates out; it does not let what answers do harm
    harmful = standing.current.number > 0 and any(broken(*one) for one in evidence.guardrails)
    if harmful or not (plan.frozen or standing.frozen):
        return widened(
            report,
            evidence,
            steps=standing.steps,
            collector=collector,
            application=application,
            apprentice=standing.apprentice,
        )
    return replace(
        report,
        publish=False,
        new_anchor=False,
        leaves_version_0=False,
        rollback_to=None,
        freeze=False,
        reason=f"frozen: version {standing.current.number} goes on answering; {report.reason}",
    )


def _seen(
    plan: Plan,
    newest: Policy | None,
    application: Application,
    collector: Collector,
    standing: Standing,
    exploration: Exploration,
) -> Evidence:
    evidence = collector.evidence(
        newest,
        untried=standing.current.number == 0 or standing.proving,
        at_ms=plan.at_ms,
        exploration=exploration,
    )
    if standing.apprentice:
        match = collector.match
        rate = match.mean if match.n >= LEAST else 0.0
        evidence = replace(evidence, match=(rate, application.rollout.match))
    return evidence


def _shift(policy: Policy | None, ring: Ring, current: Policy | None) -> float:
    """Share of recent contexts that would get another action than now."""
    if policy is None or not ring.labels:  # numbers and rankings differ in nearly every context
        return 0.0
    recent = ring.newest(RECENT)
    if current is None:
        recent = recent[ring.has_baseline[recent]]
    return action_shift(
        distribution_of(current, ring, recent), distribution_of(policy, ring, recent)
    )


def _largest_score(policy: Policy | None, application: Application, collector: Collector) -> float:
    if policy is not None and not policy.scores_are_rewards:
        return math.inf
    problem = application.problem
    return score_limit(
        collector.largest_reward,
        discount=problem.discount if isinstance(problem, Episodic) else 0.0,
        bonus=0.0 if policy is None else policy.largest_bonus,
    )


def _proven(
    report: GateReport, evidence: Evidence, standing: Standing, *, margin: float
) -> GateReport:
    """The report, with the candidate held back until one has shown itself."""
    least = -margin * evidence.scale
    shown = evidence.leaving if evidence.leaving is not None else evidence.running
    if shown.lower > least:
        standing.proving = False
        return report
    return replace(
        report,
        publish=False,
        leaves_version_0=False,
        new_anchor=False,
        reason=(
            f"begun anew: version {standing.current.number} goes on answering until the lower "
            f"bound ({evidence.label}), {shown.lower:.4g}, is above {least:.4g}"
        ),
    )
