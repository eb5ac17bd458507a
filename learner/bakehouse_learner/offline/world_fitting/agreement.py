"""Does what wins in a fitted world also win in evaluation, and what may the world be trusted for?

Pure: values and intervals come in, pairs, a rank correlation and words come out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np

from bakehouse_learner.ope.estimate import Contributions, Estimate
from bakehouse_learner.ope.intervals import bootstrap, percentile, percentile_difference

REPLICATES = 2_000
MOSTLY = 0.8  # of pairs that evaluation tells apart, from which a world that errs is of use
HALF = 0.5  # of all pairs, below which those that evaluation tells apart are too few
FEW_TRIES = 30  # decisions below which next to nothing is known of an action
Says = Literal["agrees", "disagrees", "cannot tell"]
Trust = Literal["trust it", "with care", "do not trust it"]


class Valued(NamedTuple):
    """A policy, and what it earns a decision."""

    name: str
    words: str
    in_world: float
    evaluated: Contributions | None  # on held-out decisions; None: there are none
    verdict: str  # of `bakehouse_learner.ope.diagnostics`


class Pair(NamedTuple):
    """Two policies, first − second."""

    first: str
    second: str
    in_world: float
    evaluated: Estimate
    says: Says
    size_fits: bool  # the world's difference is within the interval

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        return self._asdict() | {"evaluated": self.evaluated.as_dict()}


class Fit(NamedTuple):
    """Predictions of held-out rewards against their mean."""

    n: int
    r2: float  # share of the squared error about the mean reward of the fitted part; NaN: none
    gain: float  # squared error that the model takes away, a decision
    gain_error: float  # its standard error

    @property
    def beyond_chance(self) -> bool:
        """Whether the model explains more than the mean does, with 97.5% confidence."""
        return self.n > 1 and self.gain > 1.96 * self.gain_error


def fit_of(predicted: np.ndarray, rewards: np.ndarray, *, mean: float) -> Fit:
    """How well held-out rewards were predicted, float `[n]`.

    Args:
        mean: the mean reward of what was fitted.
    """
    n = len(rewards)
    about = (rewards - mean) ** 2
    gain = about - (rewards - predicted) ** 2
    total = float(about.sum())
    error = float(np.std(gain, ddof=1) / math.sqrt(n)) if n > 1 else math.inf
    r2 = float(gain.sum()) / total if total > 0 else math.nan
    return Fit(n, r2, float(gain.mean()) if n else math.nan, error)


def compared_pairs(policies: Sequence[Valued], *, confidence: float) -> list[Pair]:
    """Every two policies that were evaluated; all intervals hold together (Bonferroni).

    Of a policy whose evaluation is a guess, evaluation cannot tell anything.
    """
    told = [(one, one.evaluated) for one in policies if one.evaluated is not None]
    pairs = list(combinations(range(len(told)), 2))
    if not pairs:
        return []
    each_at = 1.0 - (1.0 - confidence) / len(pairs)
    drawn = bootstrap([said for _, said in told], replicates=REPLICATES, seed=0)
    found = []
    for a, b in pairs:
        (first, mine), (second, theirs) = told[a], told[b]
        apart = drawn[:, a] - drawn[:, b]
        evaluated = percentile_difference(mine, theirs, apart, confidence=each_at)
        in_world = first.in_world - second.in_world
        decided = evaluated.lower > 0 or evaluated.upper < 0
        says: Says = "cannot tell"
        if decided and "a guess" not in (first.verdict, second.verdict):
            says = "agrees" if in_world * evaluated.mean > 0 else "disagrees"
        fits = evaluated.lower <= in_world <= evaluated.upper
        found.append(Pair(first.name, second.name, in_world, evaluated, says, fits))
    return found


def evaluated_values(policies: Sequence[Valued], *, confidence: float) -> list[Estimate | None]:
    """Each policy's own estimate, bootstrapped."""
    told = [one.evaluated for one in policies if one.evaluated is not None]
    drawn = bootstrap(told, replicates=REPLICATES, seed=0) if told else np.zeros((0, 0))
    columns = iter(drawn.T)
    return [
        None
        if one.evaluated is None
        else percentile(one.evaluated, next(columns), confidence=confidence)
        for one in policies
    ]


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Rank correlation τ_b (Kendall 1945); None where one side knows no differences."""
    both = only_first = only_second = 0
    for a, b in combinations(range(len(first)), 2):
        one, other = np.sign(first[a] - first[b]), np.sign(second[a] - second[b])
        both += int(one * other)
        only_first += bool(one)
        only_second += bool(other)
    if only_first == 0 or only_second == 0:
        return None
    return both / math.sqrt(only_first * only_second)


def judged(
    fit: Fit,
    pairs: Sequence[Pair],
    tried: dict[str, int],
    *,
    gap: tuple[float, float] | None = None,
) -> tuple[Trust, list[str]]:
    """Whether to trust a world, and why, in sentences.

    Args:
        tried: decisions by action; of numbers, by part of their box.
        gap: what the best policy of the world earns there, and what it earned in evaluation.
    """
    words = [_fit_in_words(fit)]
    decided = [pair for pair in pairs if pair.says != "cannot tell"]
    wrong = [pair for pair in decided if pair.says == "disagrees"]
    right, undecided = len(decided) - len(wrong), len(pairs) - len(decided)
    trust: Trust = "trust it"
    if not decided:
        trust = "do not trust it"
        words.append(
            "evaluation tells no two of these policies apart, so nothing shows that what wins in "
            "this world wins with players; more exploration, or more decisions, would tell"
        )
    else:
        rest = f"; of {undecided} more it cannot tell" if undecided else ""
        words.append(
            f"what wins in this world also won in evaluation for {right} of {len(decided)} pairs "
            f"that evaluation tells apart{rest}"
        )
        if wrong:
            trust = "with care" if right >= MOSTLY * len(decided) else "do not trust it"
            names = "; ".join(f"{pair.first} and {pair.second}" for pair in wrong)
            words.append(f"do not choose by it between {names}")
    if trust == "trust it" and len(decided) < HALF * len(pairs):
        trust = "with care"
        words.append(
            f"{len(decided)} of {len(pairs)} pairs are too few to trust it beyond them: more "
            "decisions held out, or more exploration, would tell more apart"
        )
    if not fit.beyond_chance:
        trust = "do not trust it"
    if trust == "trust it":
        apart = float(np.median([abs(pair.evaluated.mean) for pair in decided]))
        words.append(
            "trust it for which of two policies is better, where they are about as far apart as "
            f"these (by {apart:.2g} a decision, the median), and for trying out settings"
        )
    off = [pair for pair in decided if not pair.size_fits]
    if off:
        words.append(
            f"do not trust it for how much is gained: {len(off)} of {len(decided)} differences are "
            "outside their intervals"
        )
    if gap is not None and off:
        words.append(f"its best policy earns {gap[0]:.3f} in it, and earned {gap[1]:.3f}")
    return trust, words + _unknown_in_words(tried)


def _fit_in_words(fit: Fit) -> str:
    if fit.n < 2:
        return "no held-out decision has matured, so nothing says how well its model fits"
    if fit.beyond_chance:
        return (
            f"its model explains {fit.r2:.0%} of the spread of held-out rewards; the rest is luck, "
            "or unknown to it"
        )
    return (
        f"its model explains nothing of held-out rewards beyond their mean (R² {fit.r2:.3f}, which "
        "is within chance): to it they are noise, and its players all alike"
    )


def _unknown_in_words(tried: dict[str, int]) -> list[str]:
    never = [name for name, count in tried.items() if count == 0]
    hardly = [f"{name} ({count})" for name, count in tried.items() if 0 < count < FEW_TRIES]
    words = []
    if never:
        words.append(
            f"never tried: {', '.join(never)}; the world knows nothing there, and takes it to be "
            "worth no more than what was tried"
        )
    if hardly:
        words.append(f"hardly tried: {', '.join(hardly)}; there the world is a guess")
    return words
