"""Can the reward be learned, and is there anything in the context that changes the best action?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bakehouse_learner.offline.advice.actions import Columns, columns_of
from bakehouse_learner.offline.advice.dependence import (
    Contexts,
    explained,
    fitted,
    products,
    signs_test,
)
from bakehouse_learner.offline.advice.finding import SIGNIFICANT, Finding
from bakehouse_learner.offline.advice.sample import Sample
from bakehouse_learner.ope.cross_fit import FOLDS, cross_fitted_rewards
from bakehouse_learner.training.batch import Rows

DECISIONS_NEEDED = 300  # decisions
NEVER_SURE = 1e-3  # least probability of a predicted event, for a log-loss
SURE = 2.326  # standard errors: one-sided 1%


class Gain(NamedTuple):
    """Reward a decision of the best action by context, over that of the best single action."""

    mean: float
    standard_error: float
    single: str  # the best action for everybody
    single_value: float
    by_context: float


def reward(sample: Sample, rng: np.random.Generator) -> list[Finding]:
    """Two findings: whether actions matter, and whether contexts do; of a ranking one."""
    slots = sample.drawn
    earned = sample.ring.reward[slots]
    if len(slots) < DECISIONS_NEEDED or float(np.ptp(earned)) == 0:
        return [_unknown(len(slots), earned)]
    contexts = Contexts.of(sample.observation(slots))
    by_context = fitted(contexts, earned[:, None])[:, 0]
    evidence = {"decisions": len(slots), "R² by the context": explained(earned, by_context)}
    action = columns_of(sample, slots, contexts)
    if action is None:
        return [_of_ranking(evidence)]
    by_action = fitted(Contexts(contexts.columns[:, :1]), earned[:, None], also=action.taken)[:, 0]
    by_both = _by_both(sample, slots, contexts, action, earned)
    evidence |= {
        "R² by the action": explained(earned, by_action),
        "R² by context and action": explained(earned, by_both),
    }
    if len(np.unique(earned)) == 2:
        evidence |= {
            "log-loss by the mean": log_loss(earned, np.full(len(earned), earned.mean())),
            "log-loss by the action": log_loss(earned, by_action),
            "log-loss by context and action": log_loss(earned, by_both),
        }
    left = (earned - by_context)[:, None]
    main = signs_test(products(action.apart, left), rng)
    alike = effect_for_all(action, left[:, 0])
    effects = products(products(action.apart, left - alike), contexts.columns[:, 1:])
    differs = signs_test(effects, rng)
    evidence["p-value of the action"] = main.p
    varied: dict[str, object] = {"p-value that the best action differs": differs.p}
    gain = None
    if sample.ring.labels:
        gain = gain_of_context(sample, slots)
        varied |= {
            "best action for everybody": gain.single,
            "its reward": gain.single_value,
            "reward of the best by context": gain.by_context,
            "gain": gain.mean,
            "standard error of the gain": gain.standard_error,
        }
    matters = main.p < SIGNIFICANT or differs.p < SIGNIFICANT
    how = "" if action.exact else " (by an estimate of how actions were chosen)"
    return [
        _learnable(evidence, how, matters=matters),
        _by_context(varied, gain, how, matters=matters, differs=differs.p < SIGNIFICANT),
    ]


def effect_for_all(action: Columns, left: np.ndarray) -> np.ndarray:
    """What each action adds for everybody alike, as a column `[n, 1]`.

    Args:
        left: of the rewards, once the context's own effect is taken off, float `[n]`
    """
    if action.exact:  # by importance: Σ w r / Σ w of each label
        positive = np.maximum(action.apart, 0.0) * action.taken
        weight = np.maximum(positive.sum(axis=0), 1e-12)
        means = positive.T @ left / weight
        return np.asarray(action.taken @ means)[:, None]
    x = np.concatenate([np.ones((len(left), 1)), action.taken], axis=1)
    theta = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ left)
    return np.asarray(x @ theta)[:, None]


def gain_of_context(sample: Sample, slots: np.ndarray) -> Gain:
    """Doubly robust, each decision judged by choices that were made from other decisions."""
    ring, at = sample.ring, np.arange(len(slots))
    worth = action_values(sample, slots)  # [n, A]
    eligible, taken = ring.eligible[slots], ring.action[slots]
    scored = worth.copy()
    weight = 1.0 / ring.propensity[slots]
    scored[at, taken] += weight * (ring.reward[slots] - worth[at, taken])
    chosen = np.where(eligible, worth, -np.inf).argmax(axis=1)
    fold = at % FOLDS
    single = np.zeros(len(slots), dtype=np.int64)
    for left_out in range(FOLDS):
        means = scored[fold != left_out].mean(axis=0)
        held_out = fold == left_out
        single[held_out] = np.where(eligible[held_out], means, -np.inf).argmax(axis=1)
    by_context, for_all = scored[at, chosen], scored[at, single]
    apart = by_context - for_all
    best = int(np.bincount(single, minlength=worth.shape[1]).argmax())
    return Gain(
        float(apart.mean()),
        float(apart.std(ddof=1) / np.sqrt(len(apart))),
        str(sample.application.actions.choices[best]),
        float(for_all.mean()),
        float(by_context.mean()),
    )


def action_values(sample: Sample, slots: np.ndarray) -> np.ndarray:
    """Predicted reward of each label, by models that have not seen the row. float64 `[n, A]`"""
    ring = sample.ring
    rows = Rows(
        sample.observation(slots).astype(np.float32), ring.action[slots], ring.reward[slots]
    )
    return cross_fitted_rewards(rows, actions=ring.shape.choices)


def log_loss(earned: np.ndarray, predicted: np.ndarray) -> float:
    """Mean −log probability of what happened, of rewards of two values, float `[n]` each."""
    low, high = float(earned.min()), float(earned.max())
    chance = np.clip((predicted - low) / (high - low), NEVER_SURE, 1.0 - NEVER_SURE)
    return float(-np.mean(np.where(earned == high, np.log(chance), np.log(1.0 - chance))))


def _by_both(
    sample: Sample, slots: np.ndarray, contexts: Contexts, action: Columns, earned: np.ndarray
) -> np.ndarray:
    if sample.ring.labels:
        predicted = action_values(sample, slots)
        return np.asarray(predicted[np.arange(len(slots)), sample.ring.action[slots]])
    return fitted(contexts, earned[:, None], also=action.taken)[:, 0]


def _learnable(evidence: dict[str, float], how: str, *, matters: bool) -> Finding:
    share = max(evidence["R² by context and action"], 0.0)
    if matters:
        return Finding(
            "reward", "know",
            f"The action changes the reward{how}; context and action together foretell "
            f"{100 * share:.1f}% of its variance in decisions that no model has seen.",
            evidence,
            "Go on: there is something to learn. The rest is noise, or in what is not observed.",
        )  # fmt: skip
    return Finding(
        "reward", "now",
        f"No action was seen to be better than another, for anybody{how}: as far as these "
        "decisions tell, there is nothing to learn.",
        evidence,
        "Check that outcomes arrive under the names that the page weighs and within its window, "
        "choose a reward nearer to what the action does, or gather more decisions.",
    )  # fmt: skip


def _by_context(
    evidence: dict[str, object], gain: Gain | None, how: str, *, matters: bool, differs: bool
) -> Finding:
    if differs:
        worth = ""
        if gain is not None:
            worth = (
                f"; choosing by context earns {gain.mean:+.3g} a decision "
                f"(± {1.96 * gain.standard_error:.2g}) over {gain.single!r} for everybody"
            )
        return Finding(
            "context", "know",
            f"Which action is best depends on the context{how}{worth}.",
            evidence,
            "Keep the context. A gain near 0 means that a linear model does not find it: try a "
            "network, such as neural_greedy.",
        )  # fmt: skip
    if matters:
        who = "one action" if gain is None else repr(gain.single)
        return Finding(
            "context", "soon",
            f"Nothing in the context was seen to change which action is best{how}: {who} does for "
            "everybody.",
            evidence,
            "Let the game's rules answer it and save the effort, or observe what could tell "
            "players apart.",
        )  # fmt: skip
    return Finding(
        "context", "soon",
        f"Nothing in the context was seen to change which action is best{how}.",
        evidence,
        "First find a reward that actions change (see reward).",
    )  # fmt: skip


def _of_ranking(evidence: dict[str, float]) -> Finding:
    share = max(evidence["R² by the context"], 0.0)
    return Finding(
        "reward", "know",
        f"The context alone foretells {100 * share:.1f}% of the reward's variance. What a ranking "
        "adds cannot be said: its items differ from decision to decision.",
        evidence,
        "Compare agents instead: `bakehouse compare REF`.",
    )  # fmt: skip


def _unknown(decisions: int, earned: np.ndarray) -> Finding:
    evidence = {"decisions": decisions, "least": DECISIONS_NEEDED}
    if decisions >= DECISIONS_NEEDED:
        return Finding(
            "reward", "now",
            f"Every decision earned the same, {float(earned[0]):g}: nothing can be learned.",
            evidence,
            "Check the names of outcomes in Reward(…), and that they arrive within its window.",
        )  # fmt: skip
    return Finding(
        "reward", "now" if decisions == 0 else "soon",
        f"Only {decisions} decisions were drawn by chance and are over: too few to say whether "
        "the reward can be learned.",
        evidence,
        "Let more be decided under exploration, with the propensity logged.",
    )  # fmt: skip
