"""What a candidate would earn over whole episodes against the baseline, estimated from the log.

Fitted Q evaluation (Le, Voloshin & Yue 2019) on features that are linear or quadratic in the
observation, with the interval of its linear form (Hao et al. 2021, "Bootstrapping fitted
Q-evaluation", theorem 4.2, by plug-in instead of resampling). It leans on the features being
able to express both Q functions, so its result is an estimate and is labelled one: it opens the
way out of version 0 and nothing else. Pure NumPy.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

PRODUCTS_UP_TO = 12  # dimensions for which all squares and products are features too
MAX_SWEEPS = 1_000
SETTLED = 1e-6  # change of a value, relative to the largest, at which sweeps stop


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
    ridge: float = 1e-2,
) -> FittedQDifference:
    """Difference of the two policies' values at the starts of episodes, with its interval.

    Args:
        transitions: n rows, n ≥ 1.
        start_observation: of episodes' first decisions, normalised, float `[m, D]`, m ≥ 1.
        candidate, baseline: what the two would do.
        confidence: of the two-sided interval, for one look.
        ridge: rows' worth of shrinkage of each action's coefficients.

    Raises:
        ValueError: there are no rows or no starts, or a value is not finite.
    """
    n, m = len(transitions.reward), len(start_observation)
    if n == 0 or m == 0:
        raise ValueError(f"{n} transitions and {m} starts: expected at least one of each")
    _refuse_non_finite(transitions, start_observation, candidate, baseline)
    features = _Features(transitions.observation)
    taken = features(transitions.observation)  # [n, P]
    after = features(transitions.next_observation)
    start = features(start_observation)  # [m, P]
    actions = candidate.after.shape[1]
    fitted = [
        _fit(choice, transitions, taken, after, start, actions, ridge)
        for choice in (candidate, baseline)
    ]
    if fitted[0] is None or fitted[1] is None:
        return FittedQDifference(math.nan, -math.inf, math.inf, math.nan, math.nan, n, m)
    (better, better_influence), (before, before_influence) = fitted[0], fitted[1]
    apart = better - before  # [m]
    estimate = float(np.mean(apart))
    # Steps of one episode share their luck, so they are summed before they are squared.
    _, episode = np.unique(transitions.episode, return_inverse=True)
    influence = np.bincount(episode, weights=better_influence - before_influence)
    starts = float(np.var(apart)) / m
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(
        float(np.sum(influence**2)) + starts
    )
    return FittedQDifference(
        estimate,
        estimate - half,
        estimate + half,
        float(np.mean(better)),
        float(np.mean(before)),
        n,
        m,
    )


def _fit(
    choice: Choice,
    rows: Transitions,
    taken: np.ndarray,
    after: np.ndarray,
    start: np.ndarray,
    actions: int,
    ridge: float,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Values at the starts `[m]` and each row's influence on their mean `[n]`; None: no fit.

    Each sweep regresses `r + γ Σ_a π(a|s') φ(s')ᵀθ_a` on φ(s) for each action. Regressions are
    linear, so all sweeps together are `θ ← c + Kθ`, and their cost does not grow with n.
    """
    width = taken.shape[1]
    following = rows.discount[:, None] * _by_action(choice.after, after)  # [n, A·P]
    constant = np.zeros(actions * width)
    step = np.zeros((actions * width, actions * width))
    inverses = np.zeros((actions, width, width))
    for action in range(actions):
        of_action = rows.action == action
        x = taken[of_action]
        inverses[action] = np.linalg.inv(x.T @ x + ridge * np.eye(width))
        regress = inverses[action] @ x.T  # [P, n_a]
        block = slice(action * width, (action + 1) * width)
        constant[block] = regress @ rows.reward[of_action]
        step[block] = regress @ following[of_action]
    theta = _sweep(constant, step, scale=float(np.max(np.abs(rows.reward))))
    if theta is None:
        return None
    seen = _by_action(choice.start, start)  # [m, A·P]
    # One row's pull on the mean start value: ν₀ᵀ (I − K)⁻¹ (XᵀX)⁻¹ φ(s, a) · TD error.
    try:
        pull = np.linalg.solve((np.eye(len(step)) - step).T, np.mean(seen, axis=0))
    except np.linalg.LinAlgError:
        return None
    pull = np.einsum("apq,ap->aq", inverses, pull.reshape(actions, width))  # [A, P]
    error = (
        rows.reward
        + following @ theta
        - np.einsum("np,np->n", taken, theta.reshape(actions, width)[rows.action])
    )
    influence = np.einsum("np,np->n", taken, pull[rows.action]) * error
    return seen @ theta, influence


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


class _Features:
    """`[1, x]`, with all squares and products where D is small; constant columns left out."""

    def __init__(self, observation: np.ndarray) -> None:
        width = observation.shape[1]
        self._pairs = np.triu_indices(width) if width <= PRODUCTS_UP_TO else (np.zeros(0, int),) * 2
        expanded = self._expand(observation)
        # one-hot products are constant or copies: without them the fit stays small and sound
        _, first = np.unique(expanded.round(6), axis=1, return_index=True)
        varied = np.ptp(expanded, axis=0) > 1e-9
        self._kept = np.array(sorted(column for column in first if varied[column]), dtype=int)

    def _expand(self, observation: np.ndarray) -> np.ndarray:
        x = np.asarray(observation, dtype=np.float64)
        return np.concatenate([x, x[:, self._pairs[0]] * x[:, self._pairs[1]]], axis=1)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
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
