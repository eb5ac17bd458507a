"""What a candidate would earn over whole episodes against the baseline, estimated from the log.

Fitted Q evaluation (Le, Voloshin & Yue 2019) on features that are linear or quadratic in the
observation, with the interval of its linear form (the asymptotics of Hao et al. 2021,
"Bootstrapping fitted Q-evaluation", by plug-in instead of resampling). It leans on the features
being able to express both Q functions, so its result is an estimate and is labelled one: it opens
the way out of version 0 and nothing else. Pure NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bakehouse_learner.statistics.confidence_sequence import ROUNDING, boundary

PRODUCTS_UP_TO = 12  # dimensions for which all squares and products are features too
RIDGE = 0.1  # rows' worth of shrinkage: enough to solve, little enough not to bias
BURN_IN = 50  # starts before the first interval
TIGHTEST_AT = 300  # episodes at which the interval is tuned to be narrowest
LEAST_FREEDOM = 0.05  # of a row that only its own coefficient explains
MAX_SWEEPS = 1_000
SETTLED = 1e-5  # change of a value, relative to the largest, at which sweeps stop


class Transitions(NamedTuple):
    """Single steps (not n-step sums) whose reward has matured, from any logging policy."""

    observation: np.ndarray  # float [n, D], normalised
    action: np.ndarray  # int [n], executed
    reward: np.ndarray  # float [n]
    discount: np.ndarray  # float [n], γ; 0 where the episode ended
    next_observation: np.ndarray  # float [n, D], normalised; anything finite where discount is 0
    episode: np.ndarray  # int [n], the same for all steps of one episode


class Choice(NamedTuple):
    """One policy's probabilities where the estimate needs them, masks applied."""

    after: np.ndarray  # float [n, A], at each transition's next observation
    start: np.ndarray  # float [m, A], at each start observation


class FittedQDifference(NamedTuple):
    """Candidate − baseline, return of an episode from its start. An estimate."""

    estimate: float
    lower: float  # −∞ and +∞ where the fit did not settle
    upper: float
    candidate: float
    baseline: float
    transitions: int
    starts: int

    def as_dict(self) -> dict[str, Any]:
        """For a gate report; None where there is no number."""
        return {
            name: value if isinstance(value, int) or math.isfinite(value) else None
            for name, value in self._asdict().items()
        }


def fitted_q_difference(
    transitions: Transitions,
    start_observation: np.ndarray,
    *,
    candidate: Choice,
    baseline: Choice,
    confidence: float = 0.95,
) -> FittedQDifference:
    """Difference of the two policies' values at the starts of episodes, with its interval.

    The half width is that of a confidence sequence over episodes, so a caller may look again
    whenever there are more. No interval before `BURN_IN` starts.

    Args:
        transitions: n rows, n ≥ 1.
        start_observation: of episodes' first decisions, normalised, float `[m, D]`, m ≥ 1.
        candidate, baseline: what the two would do.
        confidence: of the two-sided interval.

    Raises:
        ValueError: there are no rows or no starts, or a value is not finite.
    """
    n, m = len(transitions.reward), len(start_observation)
    if n == 0 or m == 0:
        raise ValueError(f"{n} transitions and {m} starts: expected at least one of each")
    _refuse_non_finite(transitions, start_observation, candidate, baseline)
    regression = _Regression(transitions, start_observation, actions=candidate.after.shape[1])
    ours, theirs = regression.fit(candidate), regression.fit(baseline)
    if ours is None or theirs is None:
        return FittedQDifference(math.nan, -math.inf, math.inf, math.nan, math.nan, n, m)
    apart = ours.start_values - theirs.start_values  # [m]
    estimate = float(np.mean(apart))
    # Steps of one episode share their luck, so they are summed before they are squared.
    episodes, episode = np.unique(transitions.episode, return_inverse=True)
    influence = np.bincount(episode, weights=ours.influence - theirs.influence)
    # Shrinkage stands in for rows that were not seen, as unsure as the others: without this a
    # candidate that goes where the log has not been would look certain.
    unseen = RIDGE * max(ours.noise, theirs.noise) * float(np.sum((ours.pull - theirs.pull) ** 2))
    variance = float(np.sum(influence**2)) + float(np.var(apart)) / m + unseen
    half = math.inf  # also where the two do the same throughout, or all rewards are 0
    size = float(np.max(np.abs(transitions.reward)))
    if m >= BURN_IN and variance > (ROUNDING * size) ** 2:
        half = math.sqrt(variance) * boundary(len(episodes), 1.0 - confidence, TIGHTEST_AT)
    return FittedQDifference(
        estimate,
        estimate - half,
        estimate + half,
        float(np.mean(ours.start_values)),
        float(np.mean(theirs.start_values)),
        n,
        m,
    )


def fitted_q_values(
    transitions: Transitions, policies: Sequence[np.ndarray], observation: np.ndarray
) -> list[np.ndarray | None]:
    """Each policy's value of every action, at observations that need not be of the transitions.

    Args:
        transitions: n rows, n ≥ 1.
        policies: their probabilities at each next observation, masks applied, float `[n, A]`
        observation: normalised, float `[k, D]`

    Returns:
        For each policy float64 `[k, A]`; None where its fit did not settle.

    Raises:
        ValueError: there are no rows, or a value is not finite.
    """
    if len(transitions.reward) == 0:
        raise ValueError("0 transitions: expected at least one")
    for after in policies:
        choice = Choice(after, np.zeros((0, after.shape[1])))
        _refuse_non_finite(transitions, observation, choice, choice)
    if not policies:
        return []
    regression = _Regression(transitions, observation, actions=policies[0].shape[1])
    return [regression.action_values(after) for after in policies]


class _Fit(NamedTuple):
    """One policy's regression, with what its interval is made of."""

    start_values: np.ndarray  # [m]
    influence: np.ndarray  # [n], of each row on the mean start value
    pull: np.ndarray  # [A, P], of a unit of error on each coefficient's equation
    noise: float  # variance of the errors that the fit leaves


class _Regression:
    """Ridge of each action on the same rows, for any number of policies.

    A sweep of fitted Q evaluation regresses `r + γ Σ_a π(a|s') φ(s')ᵀθ_a` on φ(s) for each
    action. Regressions are linear, so sweeps are `θ ← c + Kθ` and their cost is not that of n.
    """

    def __init__(self, rows: Transitions, start: np.ndarray, *, actions: int) -> None:
        self._rows = rows
        features = Features(rows.observation)
        self._taken = features(rows.observation)  # [n, P]
        self._after = rows.discount[:, None] * features(rows.next_observation)  # [n, P]
        self._start = features(start)  # [m, P]
        width = self._taken.shape[1]
        self._shape = (actions, width)
        self._inverses = np.zeros((actions, width, width))
        self._leverage = np.zeros(len(rows.reward))
        for action in range(actions):
            x = self._taken[rows.action == action]
            inverse = np.linalg.inv(x.T @ x + RIDGE * np.eye(width))
            self._inverses[action] = inverse
            self._leverage[rows.action == action] = np.einsum("np,np->n", x @ inverse, x)

    def _solve(self, after: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """γ-weighted features that follow `[n, A·P]`, K of the sweeps, and θ where they settle."""
        rows, (actions, width) = self._rows, self._shape
        following = _by_action(after, self._after)
        constant = np.zeros(actions * width)
        step = np.zeros((actions * width, actions * width))
        for action in range(actions):
            of_action = rows.action == action
            regress = self._inverses[action] @ self._taken[of_action].T  # [P, n_a]
            block = slice(action * width, (action + 1) * width)
            constant[block] = regress @ rows.reward[of_action]
            step[block] = regress @ following[of_action]
        return following, step, _sweep(constant, step, scale=float(np.max(np.abs(rows.reward))))

    def action_values(self, after: np.ndarray) -> np.ndarray | None:
        """Q of a policy at the start observations, `[m, A]`; None where there is no fit."""
        _, _, theta = self._solve(after)
        return None if theta is None else self._start @ theta.reshape(self._shape).T

    def fit(self, choice: Choice) -> _Fit | None:
        """Values at the starts and influences under one policy; None where there is no fit."""
        rows, (actions, width) = self._rows, self._shape
        following, step, theta = self._solve(choice.after)
        if theta is None:
            return None
        seen = _by_action(choice.start, self._start)  # [m, A·P]
        # One row's pull on the mean start value: ν₀ᵀ (I − K)⁻¹ (XᵀX)⁻¹ φ(s, a) · TD error.
        try:
            pull = np.linalg.solve((np.eye(len(step)) - step).T, np.mean(seen, axis=0))
        except np.linalg.LinAlgError:
            return None
        pull = np.einsum("apq,ap->aq", self._inverses, pull.reshape(actions, width))  # [A, P]
        taken_values = np.sum(self._taken * theta.reshape(actions, width)[rows.action], axis=1)
        error = rows.reward + following @ theta - taken_values
        # HC3 (MacKinnon & White 1985): a row that bends the fit to itself shows too small an error.
        error = error / np.maximum(1.0 - self._leverage, LEAST_FREEDOM)
        influence = np.sum(self._taken * pull[rows.action], axis=1) * error
        return _Fit(seen @ theta, influence, pull, float(np.mean(error**2)))


def _by_action(probabilities: np.ndarray, features: np.ndarray) -> np.ndarray:
    """`Σ_a π(a|s) φ(s, a)` laid out by action: `[m, A]`, `[m, P]` → `[m, A·P]`."""
    mixed = probabilities[:, :, None] * features[:, None, :]  # [m, A, P]
    return np.asarray(mixed.reshape(len(features), -1))


def _sweep(constant: np.ndarray, step: np.ndarray, *, scale: float) -> np.ndarray | None:
    """Fixed point of `θ = c + Kθ` by iteration; None where it runs away or does not settle."""
    theta = np.zeros_like(constant)
    for _ in range(MAX_SWEEPS):
        after = np.asarray(constant + step @ theta)
        largest = float(np.max(np.abs(after)))
        if not math.isfinite(largest) or largest > 1e6 * max(scale, 1e-12):
            return None
        if float(np.max(np.abs(after - theta))) <= SETTLED * max(largest, 1e-12):
            return after
        theta = after
    return None


class Features:
    """`[1, x]`, with all squares and products where D is small; constant columns left out.

    Args:
        observation: rows that show which columns vary, normalised, float `[n, D]`
        products_up_to: dimensions up to which squares and products are features too.
    """

    def __init__(self, observation: np.ndarray, *, products_up_to: int = PRODUCTS_UP_TO) -> None:
        width = observation.shape[1]
        self._pairs = np.triu_indices(width) if width <= products_up_to else (np.zeros(0, int),) * 2
        expanded = self._expand(observation)
        # one-hot products are constant or copies: without them the fit stays small and sound
        _, first = np.unique(expanded.round(6), axis=1, return_index=True)
        varied = np.ptp(expanded, axis=0) > 1e-9
        self._kept = np.array(sorted(column for column in first if varied[column]), dtype=int)

    @property
    def width(self) -> int:
        """How many there are, the 1 included."""
        return 1 + len(self._kept)

    def _expand(self, observation: np.ndarray) -> np.ndarray:
        x = np.asarray(observation, dtype=np.float64)
        return np.concatenate([x, x[:, self._pairs[0]] * x[:, self._pairs[1]]], axis=1)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Of normalised observations, float `[n, D]` → `[n, P]`."""
        chosen = self._expand(observation)[:, self._kept]
        return np.concatenate([np.ones((len(chosen), 1)), chosen], axis=1)


def _refuse_non_finite(
    transitions: Transitions, start: np.ndarray, candidate: Choice, baseline: Choice
) -> None:
    named = transitions._asdict() | {
        "start_observation": start,
        "candidate.after": candidate.after,
        "candidate.start": candidate.start,
        "baseline.after": baseline.after,
        "baseline.start": baseline.start,
    }
    for name, values in named.items():
        bad = int(np.sum(~np.isfinite(values)))
        if bad:
            raise ValueError(f"{bad} values of {name} are not finite; nothing was estimated")
