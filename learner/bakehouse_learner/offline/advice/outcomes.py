"""Do outcomes arrive, in time, and do the features say anything?"""

from __future__ import annotations

from typing import Any

import numpy as np

from bakehouse_learner.offline.advice.finding import Finding
from bakehouse_learner.offline.advice.sample import Sample
from bakehouse_schemas.application.reward import DecisionTimes, delay_ms

ALMOST_ALL, MUCH, SOME = 0.98, 0.2, 0.05


def outcomes(sample: Sample) -> Finding:
    """Whether rewards are known, and when."""
    ring, rule = sample.ring, sample.application.reward
    n = len(sample.everything)
    if n == 0:
        return Finding(
            "outcomes", "now", "There are no decisions.", {"decisions": 0},
            "Let the game ask for decisions.",
        )  # fmt: skip
    silent = too_late = late = heard = contested = 0
    for slot in sample.everything.tolist():
        known = ring.known(slot)
        times = DecisionTimes(int(ring.decided_at_ms[slot]), known.received_at_ms)
        told = [o for o in known.outcomes if o.kind == "reward"]
        contested += known.contested
        counted = rule.counted(times, [outcome.timed() for outcome in told])
        silent += not counted
        heard += len(told)
        too_late += sum(delay_ms(times, o.timed()) > rule.window_ms for o in told)
        late += sum(
            delay_ms(times, o.timed()) <= rule.window_ms
            < o.received_at_ms - known.received_at_ms
            for o in told
        )  # fmt: skip
    matured = float(np.mean(ring.matured[sample.everything]))
    evidence: dict[str, Any] = {
        "decisions": n,
        "share without a counted outcome": silent / n,
        "share matured": matured,
        "share contested": contested / n,
    }
    if sample.timed:
        evidence |= {
            "share of outcomes after the window": too_late / max(heard, 1),
            "share of outcomes in time, delivered after the window": late / max(heard, 1),
        }
    if silent / n >= ALMOST_ALL:
        return Finding(
            "outcomes", "now",
            f"{silent / n:.0%} of the decisions have no outcome that counts: their reward is the "
            f"default, {rule.default:g}.",
            evidence,
            "Compare the names that the game sends with those of Reward(…), and the window with "
            "how long players take.",
        )  # fmt: skip
    if sample.timed and too_late / max(heard, 1) >= SOME:
        return Finding(
            "outcomes", "soon",
            f"{too_late / heard:.0%} of the outcomes happened after the window of {rule.window} "
            "and do not count.",
            evidence,
            "Widen the window of Reward(…), if they are what the decision was about.",
        )  # fmt: skip
    if matured < 1.0 - MUCH or contested / n >= SOME:
        return Finding(
            "outcomes", "soon",
            f"{1 - matured:.0%} of the decisions still wait for their window to end, and "
            f"{contested / n:.1%} are contested.",
            evidence,
            "A shorter window or closes_after lets the learner be sure sooner; contested decisions "
            "come from an id that was asked for twice.",
        )  # fmt: skip
    return Finding(
        "outcomes", "know",
        f"Outcomes arrive: {silent / n:.0%} of the decisions have none, which is the default "
        f"reward, {rule.default:g}.",
        evidence,
        "Nothing to do, if silence is as frequent in the game.",
    )  # fmt: skip


def features(sample: Sample) -> Finding:
    """Features that never vary, are missing, or cannot be encoded."""
    application, ring = sample.application, sample.ring
    constant, at = [], 0
    observed = ring.observation[sample.everything]
    for feature in application.observation:
        columns = observed[:, at : at + feature.size]
        at += feature.size
        if len(columns) and float(np.ptp(columns, axis=0).max(initial=0.0)) == 0:
            constant.append(feature.name)
    contexts = list(sample.contexts.values())
    missing = {
        feature.name: float(np.mean([context.get(feature.name) is None for context in contexts]))
        for feature in application.observation
        if contexts
    }
    often = [name for name, share in missing.items() if share >= SOME]
    refused = sample.refused / max(sample.refused + len(sample.everything), 1)
    evidence: dict[str, Any] = {
        "never vary": constant,
        "share missing": missing,
        "contexts that cannot be encoded": sample.refused,
    }
    if refused >= SOME:
        return Finding(
            "features", "now",
            f"{refused:.0%} of the contexts cannot be encoded, and teach nothing.",
            evidence,
            "Give features a default, or mend what the game sends: `bakehouse check` shows what "
            "each expects.",
        )  # fmt: skip
    said = []
    if constant:
        said.append(f"never varying: {', '.join(constant)}")
    if often:
        said.append("missing: " + ", ".join(f"{name} in {missing[name]:.0%}" for name in often))
    if said:
        return Finding(
            "features", "soon", f"Features {'; '.join(said)}.", evidence,
            "Send them, or take them out: what never varies says nothing of anybody.",
        )  # fmt: skip
    return Finding(
        "features", "know", "Every feature varies, and none is missing often.", evidence,
        "Nothing to do.",
    )  # fmt: skip
