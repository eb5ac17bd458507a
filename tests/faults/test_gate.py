"""How often the gate errs, over a thousand simulated streams, looking at every batch.

Rows are simulated; what judges them is the learner's own `ProgressiveEvaluation` and `decide`. A
candidate differs from the anchor in half of the contexts. Gains are in reward standard deviations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest

from bakehouse_learner.gate.progressive_evaluation import ProgressiveEvaluation
from bakehouse_learner.gate.report import Evidence, GateReport
from bakehouse_learner.gate.rules import decide
from bakehouse_schemas.application.application import Gate

pytestmark = pytest.mark.full

STREAMS = 1_000
BATCH = 125
GATE = Gate(confidence=0.95, margin=0.1)
ERRS = 0.05  # 1 − confidence
Record = Callable[[str, object], None]


class World(NamedTuple):
    """How decisions are logged, and what their rewards are like."""

    epsilon: float = 0.5
    rare: str = ""  # "wins": 4.5 in one of twenty decisions; "losses": −4.5; else normal
    biased: bool = False  # the reward model is wrong by a deviation about the candidate's action
    by_candidate: bool = False  # the candidate answers, else the anchor

    @property
    def name(self) -> str:
        rewards = f"rare {self.rare}" if self.rare else "normal rewards"
        model = "biased" if self.biased else "plain"
        return f"exploration {self.epsilon}, {rewards}, {model} model"


HARD = [
    World(0.5),
    World(0.1, biased=True),
    World(0.1, rare="wins", biased=True),
]
RARE_STD = 4.5 * np.sqrt(0.05 * 0.95)


class Stream:
    """Decisions of one stream, made in one go and judged batch by batch."""

    def __init__(self, rng: np.random.Generator, world: World, gains: np.ndarray) -> None:
        """`gains`: candidate − anchor of each decision's candidate, mean over contexts. `[n]`"""
        n, epsilon = len(gains), world.epsilon
        rows = np.arange(n)
        differs = rng.random(n) < 0.5
        self.candidate = np.eye(3)[differs.astype(int)]  # action 1 where it differs
        self.anchor = np.tile([1.0, 0.0, 0.0], (n, 1))
        own = self.candidate if world.by_candidate else self.anchor
        executed = (1 - epsilon) * own + epsilon / 3
        drawn = (executed.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
        self.action = np.minimum(drawn, 2)
        self.propensity = executed[rows, self.action]
        gain = np.where(differs & (self.action == 1), 2 * gains, 0.0)
        if world.rare:
            sign = 1.0 if world.rare == "wins" else -1.0
            happens = rng.random(n) < 0.05 + sign * gain * RARE_STD / 4.5
            self.reward = sign * 4.5 * happens
        else:
            self.reward = rng.normal(size=n) + gain
        self.model = np.tile([0.2, 1.2 if world.biased else 0.2, 0.2], (n, 1))

    def judged(
        self, evaluation: ProgressiveEvaluation, at: int, *, current: int, anchor: int
    ) -> GateReport:
        """What the gate says after the batch that begins there."""
        batch = slice(at, at + BATCH)
        evaluation.complete(
            self.candidate[batch],
            self.anchor[batch],
            self.model[batch],
            self.action[batch],
            self.propensity[batch],
            self.reward[batch],
        )
        return decide(
            GATE,
            candidate=current + 1,
            current=current,
            anchor=anchor,
            losses={"loss": 1.0},
            golden_scores=_GOLDEN,
            largest_score=10.0,
            shift=0.5,
            evidence=Evidence(
                evaluation.difference, evaluation.reward_std, evaluation.effective_sample
            ),
        )


_GOLDEN = np.ones((16, 3))


def _evaluation() -> ProgressiveEvaluation:
    return ProgressiveEvaluation(alpha=1 - GATE.confidence, weight_cap=100.0)


def _generators(seed: int) -> Iterator[np.random.Generator]:
    return (np.random.default_rng([seed, at]) for at in range(STREAMS))


def _decisions_to_leave(rng: np.random.Generator, world: World, gain: float, n: int) -> int | None:
    stream, evaluation = Stream(rng, world, np.full(n, gain)), _evaluation()
    for at in range(0, n, BATCH):
        if stream.judged(evaluation, at, current=0, anchor=0).leaves_version_0:
            return at + BATCH
    return None


def _tell(record: Record, what: str, value: object) -> None:
    record(what, str(value))  # NumPy's numbers cannot be sent by the worker that ran the test
    print(f"{what}: {value}")


@pytest.mark.parametrize("world", HARD, ids=lambda world: world.name)
def test_version_0_is_seldom_left_for_something_worse_by_more_than_the_margin(
    world: World, record_property: Record
) -> None:
    left = sum(_decisions_to_leave(rng, world, -0.105, 2_500) is not None for rng in _generators(1))
    _tell(record_property, f"left version 0 for worse ({world.name})", left / STREAMS)
    assert left / STREAMS <= ERRS


@pytest.mark.parametrize(
    "world",
    [World(0.5), World(0.1, rare="wins", biased=True, by_candidate=True)],
    ids=lambda world: world.name,
)
def test_the_anchor_seldom_moves_to_something_worse_than_the_anchor_before(
    world: World, record_property: Record
) -> None:
    """Each anchor is followed by candidates that are a little worse, then by better ones."""
    worse, better = 1_000, 3_000
    wrong = moved = 0
    for rng in _generators(2):
        evaluation, anchor, erred = _evaluation(), 0, False
        for _ in range(3):  # anchors; k-th of them spends α / 2^k
            gains = np.repeat([-0.01, 0.6], [worse, better])
            stream = Stream(rng, world, gains)
            for at in range(0, len(gains), BATCH):
                report = stream.judged(evaluation, at, current=anchor + 1, anchor=anchor)
                if report.new_anchor:
                    erred |= at < worse
                    moved += 1
                    anchor += 1
                    evaluation.move_anchor(anchor)
                    break
                if report.freeze:  # someone looks, and releases it
                    evaluation.move_anchor(anchor)
        wrong += erred
    _tell(record_property, f"anchor moved to worse ({world.name})", wrong / STREAMS)
    assert moved / STREAMS > 2.0, "few anchors moved at all: nothing was shown"
    assert wrong / STREAMS <= ERRS


@pytest.mark.parametrize(
    "world", [World(0.5), World(0.5, rare="wins", biased=True)], ids=lambda world: world.name
)
def test_a_candidate_better_by_a_fifth_of_a_deviation_leaves_version_0_within_5000_decisions(
    world: World, record_property: Record
) -> None:
    took = [_decisions_to_leave(rng, world, 0.2, 5_000) for rng in _generators(3)]
    promoted = [decisions for decisions in took if decisions is not None]
    _tell(record_property, f"promoted within 5,000 ({world.name})", len(promoted) / STREAMS)
    _tell(record_property, f"decisions until then, median ({world.name})", np.median(promoted))
    assert len(promoted) / STREAMS >= 0.9


@pytest.mark.parametrize(
    "world",
    [
        World(0.5, by_candidate=True),
        World(0.1, rare="losses", biased=True, by_candidate=True),
    ],
    ids=lambda world: world.name,
)
def test_a_learner_whose_every_candidate_is_a_little_worse_is_always_stopped(
    world: World, record_property: Record
) -> None:
    """Each training's candidate, 125 decisions each, is 0.01 deviations worse than the last."""
    most = 12_500
    gains = -0.01 * (np.arange(most) // BATCH)
    late = []
    for rng in _generators(4):
        stream, evaluation = Stream(rng, world, gains), _evaluation()
        for at in range(0, most, BATCH):
            report = stream.judged(evaluation, at, current=2, anchor=1)
            if report.freeze:
                assert report.rollback_to == 1
                assert report.rules[4].name == "upper bound" and report.rules[4].number < 0
                late.append(at + BATCH)
                break
    _tell(record_property, f"stopped ({world.name})", len(late) / STREAMS)
    _tell(
        record_property,
        f"decisions until then, median, p95, most ({world.name})",
        [int(np.quantile(late, share)) for share in (0.5, 0.95, 1.0)],
    )
    assert len(late) == STREAMS
