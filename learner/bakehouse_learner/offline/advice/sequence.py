"""Bandit or sequential: does what comes next depend on what was done now?"""

from __future__ import annotations

import numpy as np

from bakehouse_learner.offline.advice.actions import columns_of
from bakehouse_learner.offline.advice.dependence import (
    Contexts,
    Tested,
    explained,
    fitted,
    products,
    signs_test,
)
from bakehouse_learner.offline.advice.finding import SIGNIFICANT, Finding
from bakehouse_learner.offline.advice.sample import Sample
from bakehouse_schemas.application.application import Episodic

LEAST_PAIRS = 200
FOLLOWED = 20  # steps whose rewards count as later


def sequence(sample: Sample, rng: np.random.Generator) -> Finding:
    """Whether the application's `problem` is of the right kind."""
    episodic = isinstance(sample.application.problem, Episodic)
    now, after = sample.pairs()
    if len(now) < LEAST_PAIRS:
        return _unknown(sample, len(now), episodic=episodic)
    contexts = Contexts.of(sample.observation(now))
    action = columns_of(sample, now, contexts)
    if action is None:
        return Finding(
            "sequence",
            "know",
            "Whether a ranking changes what comes next cannot be said: its items differ from "
            "decision to decision.",
            {"pairs": len(now)},
            "Judge it by how the game works; only labels, parts and numbers are tested.",
        )
    following = sample.observation(after)
    later = later_rewards(sample, after)
    unlike = following[:, np.ptp(following, axis=0) > 1e-9]
    ways: dict[str, tuple[Tested, float, float]] = {}
    for name, outcome in (("next context", unlike), ("later rewards", later[:, None])):
        without = fitted(contexts, outcome)
        given = fitted(contexts, outcome, also=action.taken)
        effects = products(products(action.apart, outcome - without), contexts.columns)
        ways[name] = (
            signs_test(effects, rng),
            explained(outcome, without),
            explained(outcome, given),
        )
    evidence: dict[str, float] = {"pairs of decisions": len(now)}
    for name, (tested, without_r2, with_r2) in ways.items():
        evidence |= {
            f"R² of {name}, by the context": without_r2,
            f"R² of {name}, by context and action": with_r2,
            f"p-value of {name}": tested.p,
        }
    # two looks share the level
    depends = [name for name, (tested, _, _) in ways.items() if tested.p < SIGNIFICANT / 2]
    how = "" if action.exact else " (by an estimate of how actions were chosen)"
    return _finding(depends, evidence, how, episodic=episodic)


def later_rewards(sample: Sample, after: np.ndarray) -> np.ndarray:
    """Discounted reward from the following decision on, `FOLLOWED` steps at most. float64 `[m]`"""
    ring, problem = sample.ring, sample.application.problem
    discount = problem.discount if isinstance(problem, Episodic) else 1.0
    total, at, weight = np.zeros(len(after)), after.copy(), np.ones(len(after))
    following = np.full(ring.allocated, -1, dtype=np.int64)
    for slot in sample.everything.tolist():
        name = sample.following.get(ring.ids[slot])
        to = None if name is None else ring.slot_of(name)
        following[slot] = -1 if to is None else to
    for _ in range(FOLLOWED):
        there = at >= 0
        if not there.any():
            break
        total[there] += weight[there] * ring.reward[at[there]]
        weight *= discount
        at[there] = following[at[there]]
    return total


def _finding(
    depends: list[str], evidence: dict[str, float], how: str, *, episodic: bool
) -> Finding:
    if depends and episodic:
        return Finding(
            "sequence", "know",
            f"Decisions are steps of a way: the action changes the {' and the '.join(depends)}, "
            f"given the context{how}.",
            evidence,
            "Keep problem=Episodic(…).",
        )  # fmt: skip
    if depends:
        return Finding(
            "sequence", "now",
            f"Decisions do not stand alone: the action changes the {' and the '.join(depends)}, "
            f"given the context{how}; a bandit looks at the next reward alone.",
            evidence,
            "Write problem=Episodic(discount=0.95, timeout=…) with an agent such as dqn, send "
            "previous_decision_id with each decision, and compare both with `bakehouse compare`.",
        )  # fmt: skip
    if episodic:
        return Finding(
            "sequence", "soon",
            f"Nothing that comes next was seen to depend on the action{how}; looking ahead costs "
            "time and gains nothing then.",
            evidence,
            "Try problem=Bandit() with neural_greedy, and compare. With few pairs the test sees "
            "large effects only.",
        )  # fmt: skip
    return Finding(
        "sequence", "know",
        f"A bandit will do: neither the next context nor later rewards were seen to depend on the "
        f"action{how}.",
        evidence,
        "Keep problem=Bandit(); ask again with more pairs.",
    )  # fmt: skip


def _unknown(sample: Sample, pairs: int, *, episodic: bool) -> Finding:
    evidence = {"pairs of decisions": pairs, "least": LEAST_PAIRS}
    if sample.memory is False:
        return Finding(
            "sequence", "know",
            "The players of this world have no memory, so in it a bandit will do; whether real "
            "players have one, only their log can tell.",
            evidence,
            "Ask again with --from replay once players have played.",
        )  # fmt: skip
    return Finding(
        "sequence",
        "now" if episodic else "know",
        "Whether decisions depend on each other cannot be said: too few are linked to the next "
        "one of the same player.",
        evidence,
        "Send previous_decision_id with each decision"
        + (": without it nothing can be learned about what comes later." if episodic else ", or "
           "at least a subject_id that stays the same."),
    )  # fmt: skip
