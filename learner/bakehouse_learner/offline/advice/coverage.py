"""Which actions are hardly ever tried, and for whom?"""

from __future__ import annotations

from typing import Any

import numpy as np

from bakehouse_learner.offline.advice.finding import Finding
from bakehouse_learner.offline.advice.sample import Sample
from bakehouse_learner.ope.diagnostics import HARDLY
from bakehouse_learner.ope.segments import segments

FEW = 30  # tries of an action, below which nothing is known of it
FEW_IN_SEGMENT, LARGE_SEGMENT = 10, 200
TENTHS = 10
MOST_TOLD = 10


def coverage(sample: Sample) -> list[Finding]:
    """What was drawn by chance, and what was not."""
    ring, slots = sample.ring, sample.slots
    if len(slots) == 0:
        return []
    found = []
    drawn = sample.drawn
    share = len(drawn) / len(slots)
    if share < 0.5:
        found.append(
            Finding(
                "coverage",
                "now",
                f"Only {share:.0%} of the decisions were drawn by chance; what was always done can "
                "be compared with nothing.",
                {"drawn by chance": len(drawn), "decisions": len(slots)},
                "Let the policy answer with exploration (mode='online', a smaller holdout), and "
                "log propensities.",
            )
        )
    if len(drawn) == 0:
        return found
    shape = sample.application.shape
    if shape.kind == "ranking":
        return [
            *found,
            Finding(
                "coverage",
                "know",
                "Which items are hardly ever shown cannot be said: they have no names that stay.",
                {"smallest propensity": float(ring.propensity[drawn].min())},
                "Count item ids in the column `items` of the replay table.",
            ),
        ]
    named = sample.ring.labels or bool(shape.segments)
    return [*found, *([_choices(sample, drawn)] if named else []), *_numbers(sample, drawn)]


def _choices(sample: Sample, drawn: np.ndarray) -> Finding:
    """Of labels, and of the labels of parts."""
    ring = sample.ring
    tried = _taken(sample, drawn)  # [n, A]
    names = _names(sample)
    counts = tried.sum(axis=0)
    propensity = ring.propensity[drawn]
    evidence: dict[str, Any] = {
        "tries": {name: int(count) for name, count in zip(names, counts, strict=True)},
    }
    if ring.labels:
        evidence["smallest propensity"] = {
            name: float(propensity[tried[:, at] > 0].min()) if counts[at] else None
            for at, name in enumerate(names)
        }
    # a segment without one action is worth knowing where the action could have been taken
    possible = ring.eligible[drawn] if len(names) == ring.eligible.shape[1] else tried >= 0
    never = [name for at, name in enumerate(names) if counts[at] < FEW and possible[:, at].any()]
    scarce = _scarce(sample, drawn, tried, possible, names)
    if scarce:
        evidence["hardly tried in"] = scarce[:MOST_TOLD]
    unlikely = (
        [n for n, least in evidence["smallest propensity"].items() if least and least < HARDLY]
        if ring.labels
        else []
    )
    if never:
        return Finding(
            "coverage", "now",
            f"Hardly ever tried: {', '.join(never)} (fewer than {FEW} times of {len(drawn):,}).",
            evidence,
            "Raise epsilon or floor of the exploration, or take the action out.",
        )  # fmt: skip
    if scarce or unlikely:
        where = f"in {len(scarce)} segments some action has fewer than {FEW_IN_SEGMENT} tries"
        weights = f"{', '.join(unlikely)} had propensities below {HARDLY:g}, of which estimates "
        said = [
            *([where] if scarce else []),
            *([weights + "get heavy weights"] if unlikely else []),
        ]
        return Finding(
            "coverage", "soon",
            f"All actions are tried, but {' and '.join(said)}.",
            evidence,
            "Raise the floor of the exploration if those cases matter.",
        )  # fmt: skip
    return Finding(
        "coverage", "know",
        f"Every action is tried often enough, the rarest {int(counts.min()):,} times.",
        evidence,
        "Nothing to do.",
    )  # fmt: skip


def _scarce(
    sample: Sample,
    drawn: np.ndarray,
    tried: np.ndarray,
    possible: np.ndarray,
    names: list[str],
) -> list[dict[str, Any]]:
    found = []
    for feature in sample.application.observation:
        values = sample.values(feature, drawn)
        if values is None:
            continue
        for segment, mask in segments(values).items():
            if mask.sum() < LARGE_SEGMENT:
                continue
            for at, name in enumerate(names):
                count = int(tried[mask, at].sum())
                if count < FEW_IN_SEGMENT and possible[mask, at].sum() >= LARGE_SEGMENT:
                    found.append(
                        {"field": feature.name, "segment": segment, "action": name,
                         "tries": count, "of": int(mask.sum())}
                    )  # fmt: skip
    return sorted(found, key=lambda one: one["tries"] / one["of"])


def _numbers(sample: Sample, drawn: np.ndarray) -> list[Finding]:
    """Tenths of each number's range that were hardly tried."""
    shape = sample.application.shape
    if not shape.dims:
        return []
    numbers = sample.ring.action[drawn][:, len(shape.segments) :]
    even = (numbers - shape.low) / (shape.high - shape.low)  # [n, d]
    tenth = np.clip((even * TENTHS).astype(np.int64), 0, TENTHS - 1)
    counts = [np.bincount(tenth[:, at], minlength=TENTHS).tolist() for at in range(shape.dims)]
    empty = sum(1 for row in counts for count in row if count < FEW)
    return [
        Finding(
            "coverage",
            "soon" if empty else "know",
            f"Of {TENTHS * shape.dims} tenths of the numbers' ranges, {empty} were tried fewer "
            f"than {FEW} times.",
            {f"tries of number {at}, by tenths": row for at, row in enumerate(counts)},
            "Widen std or raise the floor of the exploration, or narrow the box."
            if empty
            else "Nothing to do.",
        )
    ]


def _taken(sample: Sample, drawn: np.ndarray) -> np.ndarray:
    ring, shape = sample.ring, sample.application.shape
    if ring.labels:
        return np.asarray(np.eye(shape.choices)[ring.action[drawn]])
    rows = ring.action[drawn]
    parts = [
        np.eye(stop - start)[rows[:, at].astype(np.int64)]
        for at, (start, stop) in enumerate(shape.segments)
    ]
    return np.concatenate([np.zeros((len(drawn), 0)), *parts], axis=1)


def _names(sample: Sample) -> list[str]:
    return [str(name) for name in sample.application.actions.choices]
