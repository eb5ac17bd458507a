"""What is known of one candidate, and what becomes of it?

The gate holds what was seen against its rules. Two things overrule it: a policy that answered
before a restart, or under another contract, goes on until a candidate has proven itself, and
nobody gets in while anything is frozen. Nothing changes here: `Deployment.follow` carries out what
the review says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bakehouse_learner.gate.action_probabilities import distribution_of
from bakehouse_learner.gate.deployment import Deployment
from bakehouse_learner.gate.evidence import Collector
from bakehouse_learner.gate.guardrails import is_violated
from bakehouse_learner.gate.report import Evidence, GateReport, Review
from bakehouse_learner.gate.rollout_step import advance_rollout
from bakehouse_learner.gate.rules import action_shift, decide, score_limit
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.training.apprentice import DECISIONS_TO_COUNT
from bakehouse_learner.training.plan import Plan
from bakehouse_schemas.application.application import Application, Episodic
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.policy.policy import Policy

RECENT = 256  # contexts on which an action shift is measured


def review_candidate(
    plan: Plan,
    policy: Policy | None,
    *,
    newest: Policy | None,
    losses: Mapping[str, float],
    golden_scores: np.ndarray,
    application: Application,
    ring: Ring,
    collector: Collector,
    deployment: Deployment,
    exploration: Exploration,
) -> Review:
    """What becomes of the candidate of a plan.

    Args:
        policy: the candidate; None: its weights or scores are not finite.
        newest: the last whose were; it is what evidence is about.
        losses: of the training that made it, by name.
        golden_scores: the candidate's, float `[G, A]`
        exploration: with which it would be executed.
    """
    evidence = _seen(plan, newest, application, collector, deployment, exploration)
    report = decide(
        application.gate,
        candidate=plan.version,
        current=deployment.current.number,
        anchor=deployment.anchor.number,
        losses=losses,
        golden_scores=golden_scores,
        largest_score=_largest_score(policy, application, collector),
        shift=_shift(policy, ring, deployment.current.policy),
        evidence=evidence,
    )
    report = replace(report, carried=deployment.current.carried)
    proving = deployment.proving
    if proving and report.publish:
        held_back = _held_back(report, evidence, margin=application.gate.margin)
        proving, report = held_back is not None, held_back or report
    # a freeze keeps candidates out; it does not let what answers do harm
    harmful = deployment.current.number > 0 and any(
        is_violated(*one) for one in evidence.guardrails
    )
    if harmful or not (plan.frozen or deployment.frozen):
        advanced = advance_rollout(
            report,
            evidence,
            steps=deployment.steps,
            match=collector.match,
            application=application,
            apprentice=deployment.apprentice,
        )
        return Review(*advanced, proving)
    frozen = replace(
        report,
        publish=False,
        new_anchor=False,
        leaves_version_0=False,
        rollback_to=None,
        freeze=False,
        reason=f"frozen: version {deployment.current.number} goes on answering; {report.reason}",
    )
    return Review(frozen, deployment.steps, collector.match, proving)


def _seen(
    plan: Plan,
    newest: Policy | None,
    application: Application,
    collector: Collector,
    deployment: Deployment,
    exploration: Exploration,
) -> Evidence:
    evidence = collector.evidence(
        newest,
        untried=deployment.current.number == 0 or deployment.proving,
        at_ms=plan.at_ms,
        exploration=exploration,
    )
    if deployment.apprentice:
        match = collector.match
        rate = match.mean if match.n >= DECISIONS_TO_COUNT else 0.0
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


def _held_back(report: GateReport, evidence: Evidence, *, margin: float) -> GateReport | None:
    """The report with the candidate held back; None where one has proven itself."""
    if evidence.match is not None:  # an apprentice: of what pays nothing is known
        rate, wanted = evidence.match
        if rate >= wanted:
            return None
        until = f"the match with the baseline, {rate:.1%}, is {wanted:.1%}"
    else:
        least, shown = -margin * evidence.scale, evidence.on_leaving
        if shown.lower > least:
            return None
        until = f"the lower bound ({evidence.label}), {shown.lower:.4g}, is above {least:.4g}"
    why = f"begun anew: version {report.current}"
    if (carried := report.carried) is not None:
        came = f"carried over from contract {carried.from_contract}"
        why = f"the contract changed: version {report.current}, {came},"
    return replace(
        report,
        publish=False,
        leaves_version_0=False,
        new_anchor=False,
        reason=f"{why} goes on answering until {until}",
    )
