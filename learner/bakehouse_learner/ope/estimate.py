"""What is an estimate, and what does each unit of the log add to it?

Every estimator answers with contributions, so that standard errors, intervals, differences and
segments are made in one place for all of them. A unit is a decision (bandits) or an episode
(sequences).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np


class Contributions(NamedTuple):
    """What each unit adds: the estimate is `Σ_k (Σ_i numerator_ik / Σ_i denominator_ik)`.

    A plain mean has K = 1 and denominators of one. A self-normalised estimator has weights
    there, one column for each sum that it normalises.
    """

    name: str
    numerator: np.ndarray  # float64 [n, K]
    denominator: np.ndarray  # float64 [n, K]
    weight: np.ndarray  # float64 [n], importance weight of the unit; ones where there is none
    # False: contributions come from a model whose error their spread does not show
    spread_is_error: bool = True

    @property
    def n(self) -> int:
        return len(self.numerator)

    def take(self, rows: np.ndarray) -> Contributions:
        """Those of some units; `rows` is an index or a mask."""
        return self._replace(
            numerator=self.numerator[rows],
            denominator=self.denominator[rows],
            weight=self.weight[rows],
        )


@dataclass(frozen=True)
class Estimate:
    """A number and how far it can be trusted; infinite bounds where nothing bounds it."""

    name: str
    mean: float
    standard_error: float
    lower: float
    upper: float
    effective_sample: float  # units' worth of evidence (Kish 1965)
    n: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it: None where there is no number."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def plain(
    name: str, values: np.ndarray, weight: np.ndarray, *, spread_is_error: bool = True
) -> Contributions:
    """Contributions to a mean, float `[n]`, of units with these weights."""
    numerator = np.asarray(values, dtype=np.float64)[:, None]
    return Contributions(name, numerator, np.ones_like(numerator), weight, spread_is_error)


def value_of(contributions: Contributions) -> float:
    """The estimate itself; NaN of no units, or where no weight at all is left to divide by."""
    totals = np.sum(contributions.denominator, axis=0)  # [K]
    return float(ratio_sum(np.sum(contributions.numerator, axis=0), totals))


def ratio_sum(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """`Σ_k numerator_k / denominator_k`, `[…, K]` → `[…]`.

    A column without weight adds nothing (nobody got so far), unless all are without: NaN.
    """
    there = denominator > 0
    terms = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=there)
    return np.asarray(np.where(there.any(axis=-1), terms.sum(axis=-1), np.nan))


def linearised(contributions: Contributions) -> np.ndarray:
    """Values whose mean is the estimate and whose spread is its error, float64 `[n]`.

    A ratio is replaced by its first-order expansion about itself (the delta method; Owen 2013,
    *Monte Carlo theory, methods and examples*, chapter 9); a plain mean stays what it is.
    """
    numerator, denominator = contributions.numerator, contributions.denominator
    total = np.sum(denominator, axis=0)  # [K]
    there = total > 0
    scale = np.divide(len(numerator), total, out=np.zeros_like(total), where=there)
    ratio = np.divide(np.sum(numerator, axis=0), total, out=np.zeros_like(total), where=there)
    apart = (numerator - ratio * denominator) * scale  # [n, K]
    return np.asarray(np.sum(apart + ratio, axis=1))


def effective_sample(total: float, squares: float) -> float:
    """`(Σw)² / Σw²`: units of equal weight that would be worth as much (Kish 1965)."""
    return float(total**2 / squares) if squares > 0 else 0.0


def effective_sample_of(weight: np.ndarray) -> float:
    """The same from the weights, float `[n]`."""
    return effective_sample(float(np.sum(weight)), float(np.sum(weight**2)))
