"""What policies would have earned, with intervals, differences, segments and warnings first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bakehouse_learner.offline.evaluation.policy_value import Material
from bakehouse_learner.offline.evaluation.target_policies import Target
from bakehouse_learner.ope.diagnostics import Diagnosis, diagnose
from bakehouse_learner.ope.estimate import Contributions, Estimate
from bakehouse_learner.ope.intervals import (
    always_valid,
    always_valid_difference,
    bootstrap,
    percentile,
    percentile_difference,
)

SMALL_SHARE = 0.5  # of decisions that can be used, below which it is worth saying


class ReportSettings(NamedTuple):
    """How the report is to be made."""

    confidence: float
    replicates: int  # 0: always-valid intervals
    seed: int = 0


class _Answers(NamedTuple):
    """Estimates over the same units: all of them, or a segment."""

    estimates: list[list[Estimate]]  # by target, then estimator
    differences: list[list[Estimate]]  # first target − each other one, by estimator
    logged: Estimate


def report(
    material: Material,
    targets: Sequence[Target],
    learned_from: Sequence[float],
    settings: ReportSettings,
    *,
    segment: tuple[str, Mapping[str, np.ndarray]] | None = None,
) -> dict[str, Any]:
    """The whole answer as JSON carries it; the first target is judged, the others compared with.

    Args:
        learned_from: share of the units that each target has learned from.
        segment: the field, and its segments over the units (bool `[n]` each). Their intervals are
            made wider (by Bonferroni's rule), so that all of them hold together.
    """
    diagnoses = [
        diagnose(
            _weight(said), unsupported=missing, confidence=settings.confidence, units=material.units
        )
        for said, missing in zip(material.by_target, material.unsupported, strict=True)
    ]
    replicates = settings.replicates
    whole = _answer(material.logged, material.by_target, settings)
    result = {
        "units": material.units,
        "n": material.logged.n,
        "decisions": material.decisions,
        "left_out": {why: n for why, n in material.left_out.items() if n},
        "interval": f"bootstrap of {replicates}" if replicates else "always-valid",
        "confidence": settings.confidence,
        "warnings": _warnings(material, targets, diagnoses, learned_from),
        "as_logged": whole.logged.as_dict(),
        "policies": [
            {
                "policy": target.name,
                "words": target.words,
                "version": target.version,
                "verdict": diagnosis.verdict,
                "diagnosis": diagnosis.as_dict(),
                "learned_from": learned,
                "estimates": [estimate.as_dict() for estimate in estimates],
            }
            for target, diagnosis, learned, estimates in zip(
                targets, diagnoses, learned_from, whole.estimates, strict=True
            )
        ],
        "differences": [
            {"against": target.name, "estimates": [estimate.as_dict() for estimate in estimates]}
            for target, estimates in zip(targets[1:], whole.differences, strict=True)
        ],
    }
    if segment is not None:
        result["segments"] = _segments(material, targets, settings, *segment)
    return result


def _answer(
    logged: Contributions, by_target: Sequence[Sequence[Contributions]], settings: ReportSettings
) -> _Answers:
    """Estimates and paired differences, all of the same units."""
    pairs = [
        [(a, b) for a in by_target[0] for b in other if a.name == b.name] for other in by_target[1:]
    ]
    confidence = settings.confidence
    if not settings.replicates:
        return _Answers(
            [[always_valid(each, confidence=confidence) for each in said] for said in by_target],
            [
                [always_valid_difference(a, b, confidence=confidence) for a, b in pair]
                for pair in pairs
            ],
            always_valid(logged, confidence=confidence),
        )
    flat = [logged, *(each for said in by_target for each in said)]
    drawn = bootstrap(flat, replicates=settings.replicates, seed=settings.seed)
    column = {id(each): drawn[:, at] for at, each in enumerate(flat)}
    return _Answers(
        [
            [percentile(each, column[id(each)], confidence=confidence) for each in said]
            for said in by_target
        ],
        [
            [
                percentile_difference(a, b, column[id(a)] - column[id(b)], confidence=confidence)
                for a, b in pair
            ]
            for pair in pairs
        ],
        percentile(logged, column[id(logged)], confidence=confidence),
    )


def _segments(
    material: Material,
    targets: Sequence[Target],
    settings: ReportSettings,
    field: str,
    masks: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    each_at = settings._replace(confidence=1.0 - (1.0 - settings.confidence) / max(len(masks), 1))
    rows = []
    for name, mask in masks.items():
        # the first estimator is the one to read
        by_target = [[said[0].take(mask)] for said in material.by_target]
        answers = _answer(material.logged.take(mask), by_target, each_at)
        rows.append(
            {
                "segment": name,
                "n": int(mask.sum()),
                "as_logged": answers.logged.as_dict(),
                "verdict": diagnose(
                    _weight(by_target[0]),
                    confidence=each_at.confidence,
                    units=material.units,
                ).verdict,
                "estimates": [
                    {"policy": target.name} | said[0].as_dict()
                    for target, said in zip(targets, answers.estimates, strict=True)
                ],
                "differences": [
                    {"against": target.name} | said[0].as_dict()
                    for target, said in zip(targets[1:], answers.differences, strict=True)
                    if said
                ],
            }
        )
    return {"field": field, "each_at_confidence": each_at.confidence, "segments": rows}


def _weight(said: Sequence[Contributions]) -> np.ndarray:
    """Importance weights, unclipped: those of the self-normalised estimator."""
    named = {each.name: each for each in said}
    return (named.get("snips") or named.get("weighted is") or said[0]).weight


def _warnings(
    material: Material,
    targets: Sequence[Target],
    diagnoses: Sequence[Diagnosis],
    learned_from: Sequence[float],
) -> list[str]:
    """What has to be known before a number is read, the gravest first."""
    grave: list[str] = []
    light: list[str] = []
    for target, diagnosis, learned in zip(targets, diagnoses, learned_from, strict=True):
        if diagnosis.words:
            ends = {
                "a guess": ": this number is a guess",
                "weak": ": read this number with care",
                "sound": "",
            }[diagnosis.verdict]
            words = f"{target.name}: {'; '.join(diagnosis.words)}{ends}"
            (grave if diagnosis.verdict == "a guess" else light).append(words)
        if learned > 0:
            hint = "; --unseen leaves them out" if target is targets[0] else ""
            light.append(
                f"{target.name}: has learned from {100 * learned:.0f}% of these {material.units}, "
                f"which flatters it{hint}"
            )
    out = sum(material.left_out.values())
    whole = material.logged.n + out
    if material.logged.n < SMALL_SHARE * whole:
        light.append(f"only {material.logged.n:,} of {whole:,} {material.units} can be used")
    return grave + light
