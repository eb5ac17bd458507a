"""Progressive evaluation: is the newest candidate better than the anchor, judged row by row.

When a decision is read, candidate, anchor and reward model predict for it, before any of them
has trained on it; when it matures, its reward completes one doubly robust difference (Dudík,
Langford & Li 2011). Pure NumPy; the caller keeps the predictions until they are completed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bakehouse_learner.ope.estimate import effective_sample
from bakehouse_learner.statistics.confidence_sequence import BURN_IN as ALL_BURN_IN
from bakehouse_learner.statistics.confidence_sequence import ConfidenceSequence, Interval, Moments
from bakehouse_learner.statistics.difference import DifferenceSequence
from bakehouse_learner.statistics.recent_mean import RecentMean

# Largest difference of two policies' probabilities of an action up to which both do the same.
SAME = 0.01
BURN_IN = 50  # decisions on which the two differ, before the first bounds
TIGHTEST_AT = 700  # of those: the number at which bounds are narrowest for their α


def paired_difference(
    *,
    candidate: np.ndarray,
    anchor: np.ndarray,
    model: np.ndarray,
    action: np.ndarray,
    propensity: np.ndarray,
    reward: np.ndarray,
    weight_cap: float,
) -> np.ndarray:
    """Doubly robust estimate of candidate − anchor, one for each decision.

    `Σ_a (c_a − b_a) m_a + (c_A − b_A) min(1/p, cap) (r − m_A)`: unbiased whatever the model m,
    as long as no propensity is below 1/cap.

    Args:
        candidate, anchor: their probabilities of each action, float `[B, A]`
        model: predicted rewards, float `[B, A]`
        action: the action that was executed, int `[B]`
        propensity: with which it was chosen, float `[B]`, in (0, 1]
        reward: matured, float `[B]`
        weight_cap: largest importance weight; 1/floor.

    Returns:
        float64 `[B]`

    Raises:
        ValueError: a propensity is outside (0, 1], or a value is not finite.
    """
    _check(candidate, anchor, model, propensity, reward)
    shift = np.asarray(candidate, dtype=np.float64) - anchor  # [B, A]
    rows = np.arange(len(action))
    residual = reward - model[rows, action]  # [B]
    weight = shift[rows, action] * np.minimum(1.0 / propensity, weight_cap)  # [B]
    return np.asarray(np.sum(shift * model, axis=1) + weight * residual, dtype=np.float64)


def density_ratios(target: np.ndarray, propensity: np.ndarray, *, weight_cap: float) -> np.ndarray:
    """`min(target / p, cap)`: weights of actions that are no labels, by density. float64 `[B]`"""
    with np.errstate(over="ignore"):  # what overflows is capped
        return np.asarray(np.minimum(np.asarray(target, np.float64) / propensity, weight_cap))


def expected_square(
    *,
    candidate: np.ndarray,
    anchor: np.ndarray,
    action: np.ndarray,
    propensity: np.ndarray,
    weight_cap: float,
) -> np.ndarray:
    """Variance to expect of each paired difference, in units of the residual variance.

    `Σ_a (c_a − b_a)² / p_a`, capped, where the probabilities of the actions not taken are filled
    in as equal shares of the rest: exact for greedy actions under ε-greedy. It says how rare and
    how large the weights are going to be before the first rare one has come. float64 `[B]`
    """
    squared = (np.asarray(candidate, dtype=np.float64) - anchor) ** 2  # [B, A]
    rows = np.arange(len(action))
    others = (1.0 - propensity) / max(squared.shape[1] - 1, 1)  # [B]
    per_other = np.minimum(1.0 / np.maximum(others, 1.0 / weight_cap), weight_cap)
    taken = squared[rows, action]
    return np.asarray(
        taken * np.minimum(1.0 / propensity, weight_cap)
        + (np.sum(squared, axis=1) - taken) * per_other
    )


class ProgressiveEvaluation:
    """The evidence that the gate decides on, kept one matured decision after another.

    The sequence is over "newest candidate when the decision was read − anchor", where the two
    differ: a decision on which both do the same is a difference of 0 whatever they are worth, and
    a thousand of those are no evidence about the candidate that comes next. Mean and bounds are
    told of any decision, by the share of recent ones on which they differ. Candidates change all
    the time, so what is bounded is the running mean of the differences of those that
    were newest, not the value of the one candidate at hand. The sequence starts over when the
    anchor moves; the k-th anchor spends α/2^k (version 0 is the first), so all of them together
    err with probability at most α.

    Args:
        alpha: 1 − confidence.
        weight_cap: 1/floor of the exploration.
    """

    def __init__(self, *, alpha: float, weight_cap: float) -> None:
        if not weight_cap >= 1:
            raise ValueError(f"weight_cap is {weight_cap}: expected 1/floor, at least 1")
        self._alpha = alpha
        self._weight_cap = weight_cap
        self._rewards = Moments()
        self._residuals = Moments()
        self._returns = Moments()
        self.era = 1
        self.anchor = 0
        self._begin()

    def _begin(self) -> None:
        # anchors move for months: 2^k leaves the floats at k = 1,024, and α may not become 0
        spent = math.ldexp(self._alpha, -min(self.era, 1_000))
        self._differences = ConfidenceSequence(spent, burn_in=BURN_IN, tightest_at=TIGHTEST_AT)
        self._compared = RecentMean()  # whether the two differ
        self._episodes = DifferenceSequence(spent)
        self._weights = np.zeros(2)  # Σw, Σw² of the candidate

    def complete(
        self,
        candidate: np.ndarray,
        anchor: np.ndarray,
        model: np.ndarray,
        action: np.ndarray,
        propensity: np.ndarray,
        reward: np.ndarray,
        era: np.ndarray | None = None,
    ) -> None:
        """Take matured decisions of cohort `policy`, in the order of their decisions.

        The caller leaves out what is no support for importance weights: p = 1 by design
        (holdout, fallback, apprentice), an `executed` that differs, contested experiences.

        Args:
            candidate, anchor, model: as predicted when read, float `[B, A]`; where actions are no
                labels, `[B, 1]`: densities of the executed action, and the model's prediction for
                the context alone, which leaves `(w_c − w_b)(r − m)` of the paired difference.
            action: int `[B]`
            propensity: float `[B]`, above 0, of labels at most 1
            reward: float `[B]`
            era: `self.era` at the time of the prediction, int `[B]`; rows of an earlier era were
                compared with another anchor and tell only about rewards. None: all are of now.

        Raises:
            ValueError: see `paired_difference`; nothing was taken.
        """
        labels = candidate.shape[1] > 1
        _check(candidate, anchor, model, propensity, reward, most=1.0 if labels else math.inf)
        rows = np.arange(len(action))
        self._rewards.update(np.asarray(reward, dtype=np.float64))
        self._residuals.update(np.asarray(reward - model[rows, action], dtype=np.float64))
        now = np.ones(len(action), dtype=bool) if era is None else np.asarray(era) == self.era
        if not np.any(now):
            return
        candidate, anchor, model = candidate[now], anchor[now], model[now]
        action, propensity, reward = action[now], propensity[now], reward[now]
        size = float(max(np.max(np.abs(reward)), np.max(np.abs(model))))
        if not labels:
            residual = reward - model[:, 0]
            ratio = density_ratios(candidate[:, 0], propensity, weight_cap=self._weight_cap)
            shift = ratio - density_ratios(anchor[:, 0], propensity, weight_cap=self._weight_cap)
            apart = np.abs(shift) > SAME
            self._compared.update(apart)
            shift, residual = shift[apart], residual[apart]
            variance = self._residuals.variance * shift**2
            self._differences.update(shift * residual, variance, size=size)
            self._weights += [float(np.sum(ratio)), float(np.sum(ratio**2))]
            return
        apart = np.max(np.abs(candidate - anchor), axis=1) > SAME
        self._compared.update(apart)
        drawn = {
            "candidate": candidate[apart],
            "anchor": anchor[apart],
            "action": action[apart],
            "propensity": propensity[apart],
            "weight_cap": self._weight_cap,
        }
        self._differences.update(
            paired_difference(model=model[apart], reward=reward[apart], **drawn),
            self._residuals.variance * expected_square(**drawn),
            size=size,
        )
        weight = candidate[np.arange(len(action)), action] * np.minimum(
            1.0 / propensity, self._weight_cap
        )
        self._weights += [float(np.sum(weight)), float(np.sum(weight**2))]

    def episode_returns(
        self,
        policy: np.ndarray,
        holdout: np.ndarray,
        policy_weight: np.ndarray | None = None,
        *,
        policy_subject: np.ndarray | None = None,
        holdout_subject: np.ndarray | None = None,
    ) -> None:
        """Take the discounted returns of completed episodes, float `[B₁]` and `[B₂]`, and whose
        they are, uint64 `[B₁]` and `[B₂]` (see `DifferenceSequence.update`).

        Only episodes that a published policy (not version 0) answered from start to end belong
        in `policy`. With `policy_weight`, the product over an episode's decisions of the
        policy's own probability of the action / propensity, the policy is judged as it would be
        without exploration, as the holdout is; without it, exploration counts against it.
        """
        self._episodes.update(
            policy,
            holdout,
            policy_weight,
            first_subject=policy_subject,
            second_subject=holdout_subject,
        )
        self._returns.update(np.asarray(policy, dtype=np.float64))
        self._returns.update(np.asarray(holdout, dtype=np.float64))

    def move_anchor(self, version: int) -> None:
        """Compare with `version` from now on (also the same again, after a release)."""
        self.anchor = version
        self.era += 1
        self._begin()

    @property
    def difference(self) -> Interval:
        """Candidate − anchor, a decision, in units of reward; n counts those, too, on which the
        two do the same."""
        difference, share = self._differences.interval(), self._compared.mean
        if self._compared.n < ALL_BURN_IN or not math.isfinite(difference.lower) or not share:
            return Interval(share * difference.mean, -math.inf, math.inf, self._compared.n)
        mean, lower, upper = (share * number for number in difference[:3])
        return Interval(mean, lower, upper, self._compared.n)

    @property
    def episodes(self) -> Interval:
        """Policy − holdout, an episode, in units of return."""
        return self._episodes.interval()

    @property
    def reward_std(self) -> float:
        """Of matured decisions, since the beginning."""
        return self._rewards.std

    @property
    def return_std(self) -> float:
        """Of completed episodes, since the beginning."""
        return self._returns.std

    @property
    def effective_sample(self) -> float:
        """Decisions' worth of evidence about the candidates: (Σw)²/Σw² (Kish 1965)."""
        total, squares = self._weights
        return effective_sample(float(total), float(squares))

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        return {
            "era": self.era,
            "anchor": self.anchor,
            "weights": self._weights.tolist(),
            "rewards": self._rewards.state(),
            "residuals": self._residuals.state(),
            "returns": self._returns.state(),
            "differences": self._differences.state(),
            "compared": self._compared.state(),
            "episodes": self._episodes.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the evaluation that gave `state` had never stopped."""
        self.era = int(state["era"])
        self.anchor = int(state["anchor"])
        self._weights = np.array(state["weights"], dtype=np.float64)
        self._rewards.restore(state["rewards"])
        self._residuals.restore(state["residuals"])
        self._returns.restore(state["returns"])
        if "compared" in state:
            self._differences.restore(state["differences"])
            self._compared.restore(state["compared"])
        else:  # an earlier release took decisions, too, on which the two do the same: begin anew
            self._differences.alpha = float(state["differences"]["alpha"])
        self._episodes.restore(state["episodes"])


def _check(
    candidate: np.ndarray,
    anchor: np.ndarray,
    model: np.ndarray,
    propensity: np.ndarray,
    reward: np.ndarray,
    *,
    most: float = 1.0,
) -> None:
    wrong = ~((propensity > 0) & (propensity <= most))  # also catches NaN
    if np.any(wrong):
        raise ValueError(
            f"{int(np.sum(wrong))} of {len(propensity)} propensities are outside (0, {most:g}], "
            f"such as {propensity[wrong][0]}; no row was taken"
        )
    for what, values in (
        ("candidate probabilities", candidate),
        ("anchor probabilities", anchor),
        ("model predictions", model),
        ("rewards", reward),
    ):
        bad = int(np.sum(~np.isfinite(values)))
        if bad:
            raise ValueError(f"{bad} {what} are not finite; no row was taken")
