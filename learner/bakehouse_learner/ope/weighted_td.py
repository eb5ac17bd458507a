"""What a candidate would earn over whole episodes against version 0, where actions are no labels.

Off-policy least-squares temporal differences (Bradtke & Barto 1996; with a ratio of densities for
each step, Precup, Sutton & Dasgupta 2001): the value V of each policy as it would be executed,
linear in features of the observation, solves

    Σ ρ φ(s) (r + γ φ(s')ᵀθ − φ(s)ᵀθ) = 0,  ρ = density of the policy / density as logged.

Which number does not enter the features: that the log has numbers near those that a policy would
choose is what ρ accounts for. It leans on linear features and on ratios that are capped, so its
result is an estimate and is labelled one: it opens the way out of version 0 and nothing else.
For labels there is `bakehouse_learner.ope.fitted_q`, whose interval this has. Pure NumPy.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bakehouse_learner.ope.fitted_q import BURN_IN, LEAST_FREEDOM, RIDGE, TIGHTEST_AT, Features
from bakehouse_learner.statistics.confidence_sequence import ROUNDING, boundary


class LoggedSteps(NamedTuple):
    """Single steps (not n-step sums) whose reward has matured, from any logging policy."""

    observation: np.ndarray  # float [n, D], normalised
    reward: np.ndarray  # float [n]
    discount: np.ndarray  # float [n], γ; 0 where the episode ended
    next_observation: np.ndarray  # float [n, D], normalised; anything finite where discount is 0
    episode: np.ndarray  # int [n], the same for all steps of one episode
    propensity: np.ndarray  # float [n], density as logged, above 0


class ValueDifference(NamedTuple):
    """Candidate − version 0, return of an episode from its start. An estimate."""

    estimate: float
    lower: float  # −∞ and +∞ where there is no interval
    upper: float
    candidate: float
    version_0: float
    steps: int
    starts: int


def weighted_td_difference(
    steps: LoggedSteps,
    start_observation: np.ndarray,
    *,
    candidate: np.ndarray,
    version_0: np.ndarray,
    most_weight: float,
    confidence: float = 0.95,
) -> ValueDifference:
    """Difference of the two policies' values at the starts of episodes, with its interval.

    The half width is that of a confidence sequence over episodes, so a caller may look again
    whenever there are more. No interval before `BURN_IN` starts.

    Args:
        steps: n rows, n ≥ 1.
        start_observation: of episodes' first decisions, normalised, float `[m, D]`, m ≥ 1.
        candidate, version_0: density with which each would have executed the logged action, `[n]`.
        most_weight: where a ratio of densities is cut off.
        confidence: of the two-sided interval.

    Raises:
        ValueError: there are no rows or no starts, or a value is not finite.
    """
    n, m = len(steps.reward), len(start_observation)
    if n == 0 or m == 0:
        raise ValueError(f"{n} steps and {m} starts: expected at least one of each")
    named = steps._asdict() | {
        "start_observation": start_observation,
        "candidate": candidate,
        "version_0": version_0,
    }
    for name, values in named.items():
        bad = int(np.sum(~np.isfinite(values)))
        if bad:
            raise ValueError(f"{bad} values of {name} are not finite; nothing was estimated")
    regression = _Regression(steps, start_observation)
    ours, theirs = (
        regression.fit(np.minimum(density / steps.propensity, most_weight))
        for density in (candidate, version_0)
    )
    if ours is None or theirs is None:
        return ValueDifference(math.nan, -math.inf, math.inf, math.nan, math.nan, n, m)
    apart = ours.start_values - theirs.start_values  # [m]
    estimate = float(np.mean(apart))
    # steps of one episode share their luck, so they are summed before they are squared
    episodes, episode = np.unique(steps.episode, return_inverse=True)
    influence = np.bincount(episode, weights=ours.influence - theirs.influence)
    # what shrinkage stands in for is as unsure as what was seen: a policy that goes where the log
    # has not been would look certain else
    unseen = RIDGE * max(ours.noise, theirs.noise) * float(np.sum((ours.pull - theirs.pull) ** 2))
    variance = float(np.sum(influence**2)) + float(np.var(apart)) / m + unseen
    half = math.inf  # also where the two do the same throughout, or all rewards are 0
    size = float(np.max(np.abs(steps.reward)))
    if m >= BURN_IN and variance > (ROUNDING * size) ** 2:
        half = math.sqrt(variance) * boundary(len(episodes), 1.0 - confidence, TIGHTEST_AT)
    return ValueDifference(
        estimate,
        estimate - half,
        estimate + half,
        float(np.mean(ours.start_values)),
        float(np.mean(theirs.start_values)),
        n,
        m,
    )


class _Fit(NamedTuple):
    """One policy's regression, with what its interval is made of."""

    start_values: np.ndarray  # [m]
    influence: np.ndarray  # [n], of each row on the mean start value
    pull: np.ndarray  # [P], of a unit of error on each feature's equation
    noise: float  # variance of the errors that the fit leaves


class _Regression:
    """The same rows for any number of policies."""

    def __init__(self, steps: LoggedSteps, start: np.ndarray) -> None:
        self._steps = steps
        features = Features(steps.observation)
        self._now = features(steps.observation)  # [n, P]
        self._after = steps.discount[:, None] * features(steps.next_observation)  # [n, P]
        self._start = features(start)  # [m, P]

    def fit(self, weight: np.ndarray) -> _Fit | None:
        """Values at the starts and influences under ratios `[n]`; None where there is no fit."""
        weighted = weight[:, None] * self._now  # [n, P]
        normal = weighted.T @ (self._now - self._after) + RIDGE * np.eye(self._now.shape[1])
        try:
            inverse = np.linalg.inv(normal)
        except np.linalg.LinAlgError:
            return None
        theta = inverse @ (weighted.T @ self._steps.reward)
        values = self._start @ theta
        largest = np.max(np.abs(self._steps.reward))
        if not np.isfinite(values).all() or np.max(np.abs(values)) > 1e6 * max(largest, 1e-12):
            return None
        pull = inverse.T @ self._start.mean(axis=0)  # [P]
        error = self._steps.reward + (self._after - self._now) @ theta
        # HC3 (MacKinnon & White 1985): a row that bends the fit to itself shows too small an error
        leverage = np.einsum("np,np->n", self._now @ inverse.T, weighted)
        freed = error / np.clip(1.0 - leverage, LEAST_FREEDOM, 1.0)
        noise = float(np.average(freed**2, weights=weight + 1e-12))
        return _Fit(values, (weighted @ pull) * freed, pull, noise)
