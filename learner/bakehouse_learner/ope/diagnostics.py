"""Is there enough in the log to say anything about this policy, and how is that put in words?"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from bakehouse_learner.ope.estimate import effective_sample_of
from bakehouse_learner.statistics.confidence_sequence import ROUNDING, ConfidenceSequence

Verdict = Literal["sound", "weak", "a guess"]

HARDLY = 0.01  # logged probability below which an action is hardly supported
FEW, VERY_FEW = 500.0, 100.0  # units' worth of evidence below which an estimate is weak, a guess
LITTLE = 0.05  # share of the log that speaks for the policy, below which the estimate is weak
MUCH_MISSING = 0.05  # share of the policy's mass without support, from which it is a guess
LARGE_SHARE = 0.1  # of all weight, on one unit


@dataclass(frozen=True)
class Diagnosis:
    """What the weights say about an estimate, before anyone reads the estimate."""

    n: int
    effective_sample: float  # Kish 1965
    largest_weight: float
    mean_weight: float  # 1 on average, if propensities are right and nothing is missing
    mean_weight_lower: float
    mean_weight_upper: float
    unsupported: float  # share of the policy's mass on actions that the log hardly tries
    verdict: Verdict
    words: tuple[str, ...]  # reasons, the gravest first; empty where the verdict is "sound"

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it: None where there is no number."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def diagnose(
    weight: np.ndarray,
    *,
    unsupported: float = 0.0,
    confidence: float = 0.95,
    units: str = "decisions",
) -> Diagnosis:
    """Judge the importance weights of an estimate, float `[n]`.

    Args:
        unsupported: see `missing_support`; where only propensities are known, 0: what is missing
            then shows in a mean weight below 1.
        confidence: of the interval of the mean weight (always-valid).
        units: what the weights are of, in words.
    """
    n = len(weight)
    worth = effective_sample_of(weight)
    total, largest = float(np.sum(weight)), float(np.max(weight, initial=0.0))
    sequence = ConfidenceSequence(1.0 - confidence)
    sequence.update(weight)
    mean, lower, upper, _ = sequence.interval()
    grave: list[str] = []
    light: list[str] = []
    if n == 0:
        grave.append(f"the log holds no {units} that can be used")
    elif worth < VERY_FEW:
        grave.append(
            f"the log speaks for this policy with {_number(worth)} {units}' worth of evidence "
            f"out of {n:,} ({_share(worth / n)})"
        )
    elif worth < FEW or worth < LITTLE * n:
        light.append(
            f"only {_share(worth / n)} of the log speaks for this policy: {_number(worth)} "
            f"{units}' worth of {n:,}"
        )
    if unsupported >= MUCH_MISSING:
        grave.append(
            f"{_share(unsupported)} of what this policy would do, the log has hardly tried (less "
            f"than once in {round(1 / HARDLY)})"
        )
    elif unsupported > 0.001:
        light.append(f"{_share(unsupported)} of what this policy would do, the log hardly tried")
    told = worth >= VERY_FEW  # of fewer, the average itself says nothing
    # weights that are all the same have no bounds, and their average is what each of them is
    low, high = (mean - ROUNDING, mean + ROUNDING) if math.isinf(upper) else (lower, upper)
    if told and high < 1.0 - MUCH_MISSING:
        grave.append(
            f"weights average {mean:.2f} instead of 1: at least {_share(1 - high)} of what this "
            "policy would do is not in the log, or its propensities are not those it was drawn with"
        )
    elif told and not low <= 1.0 <= high:
        light.append(
            f"weights average {mean:.3f} ({low:.3f} to {high:.3f}) instead of 1: propensities "
            "may not be those that actions were drawn with"
        )
    if n and total > 0 and largest / total > LARGE_SHARE:
        light.append(f"one of the {n:,} {units} carries {_share(largest / total)} of all weight")
    verdict: Verdict = "a guess" if grave else "weak" if light else "sound"
    return Diagnosis(n, worth, largest, mean, lower, upper, unsupported, verdict, (*grave, *light))


def missing_support(target: np.ndarray, logged: np.ndarray) -> float:
    """Share of the target's mass on actions that were logged with less than `HARDLY`.

    Args:
        target: probabilities of the evaluated policy, float `[n, A]`
        logged: those of the log, or what they are at least, float `[n, A]`
    """
    if len(target) == 0:
        return 0.0
    return float(np.mean(np.sum(np.where(logged < HARDLY, target, 0.0), axis=1)))


def _share(share: float) -> str:
    return f"{100 * share:.1f}%" if share < 0.1 else f"{100 * share:.0f}%"


def _number(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}"
