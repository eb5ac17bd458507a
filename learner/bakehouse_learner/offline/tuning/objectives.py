"""What are settings worth? Judged by the application's world, or by a log of what was played."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.stats

from bakehouse_learner.offline.evaluation.policy_value import material
from bakehouse_learner.offline.evaluation.target_policies import Target
from bakehouse_learner.offline.history.history import History
from bakehouse_learner.offline.simulation.simulation import Point, simulate
from bakehouse_learner.offline.training.held_out import target_of
from bakehouse_learner.offline.training.train_on_history import train_on_history
from bakehouse_learner.ope.estimate import linearised, value_of
from bakehouse_learner.statistics.confidence_sequence import are_alike
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.worlds.world import World

LOOKS = 20  # at how far a run is: where one can be pruned
HELD_OUT = 0.2
CONFIDENCE = 0.95
Build = Callable[[Setup], TrainableAgent]
Tell = Callable[[int, float], None]  # decisions so far, score so far


class Difference(NamedTuple):
    """The best − the application as it is, on seeds that the search has not used."""

    mean: float
    lower: float
    upper: float
    best: list[float]  # scores by seed
    page: list[float]

    @property
    def more_than_noise(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.lower > 0 or self.upper < 0

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it: None where there is no bound."""
        bounds = {
            name: value if math.isfinite(value) else None
            for name, value in (("lower", self.lower), ("upper", self.upper))
        }
        return self._asdict() | bounds | {"more_than_noise": self.more_than_noise}


class Judge(Protocol):
    """Scores settings; the larger the better."""

    runs_a_difference: int  # as many runs each seed of a difference takes

    def score(self, application: Application, seed: int, tell: Tell) -> float:
        """What these settings are worth."""

    def difference(
        self, best: Application, page: Application, seeds: Sequence[int], tell: Callable[[], None]
    ) -> Difference:
        """Whether one is worth more than the other; `tell` is called after every run."""


class InWorld:
    """Share of what the best could earn, exploration and all that had yet to be learned included.

    The area under the learning curve, so who learns sooner earns more; the best does not explore,
    so who explores more earns less.
    """

    runs_a_difference = 2

    def __init__(self, world: World, build: Build, *, decisions: int, rate_per_s: float) -> None:
        self._world, self._build = world, build
        self._decisions, self._rate_per_s = decisions, rate_per_s

    def score(self, application: Application, seed: int, tell: Tell) -> float:
        """Mean share over all decisions of the policy cohort."""
        before, total = 0, 0.0

        def step(point: Point) -> None:
            nonlocal before, total
            total += (point.share or 0.0) * (point.decisions - before)
            before = point.decisions
            tell(point.decisions, total / before)

        simulate(
            replace(application, mode="online"),
            self._world,
            self._build,
            decisions=self._decisions,
            rate_per_s=self._rate_per_s,
            seed=seed,
            on_step=step,
            share_over=max(2 * self._decisions // LOOKS, 2),
            of_exploring=False,
        )
        return total / max(before, 1)

    def difference(
        self, best: Application, page: Application, seeds: Sequence[int], tell: Callable[[], None]
    ) -> Difference:
        """Paired by seed: the same players for both. Student's interval."""
        scores: list[list[float]] = [[], []]
        for seed in seeds:
            for into, application in zip(scores, (best, page), strict=True):
                into.append(self.score(application, seed, lambda *_: None))
                tell()
        return paired(*scores)


def paired(best: Sequence[float], page: Sequence[float]) -> Difference:
    """The mean difference of pairs, with Student's interval; infinite where they are all alike."""
    apart = np.array(best) - np.array(page)
    half, n = math.inf, len(apart)
    if n > 1 and not are_alike(apart, float(np.max(np.abs([*best, *page])))):
        quantile = float(scipy.stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1))
        half = quantile * float(np.std(apart, ddof=1)) / math.sqrt(n)
    mean = float(np.mean(apart))
    return Difference(mean, mean - half, mean + half, list(best), list(page))


class ByHistory:
    """The doubly robust estimate of what a decision (an episode) would earn, on a log's tail.

    The search never sees the newest fifth of the log: it trains on the older part of the rest,
    and is judged by the newer. The best and the application as it is are then trained on all of
    the rest, and judged by that fifth.
    """

    runs_a_difference = 2

    def __init__(self, history: History, build: Build) -> None:
        self._history, self._build = history, build
        self._earlier = earlier_part(history, 1.0 - HELD_OUT)

    def score(self, application: Application, seed: int, tell: Tell) -> float:  # noqa: ARG002
        """The estimate; it comes at the end, so nothing is told."""
        found = self._judged(self._earlier, [application], seed)
        return float(value_of(found[0]))

    def difference(
        self, best: Application, page: Application, seeds: Sequence[int], tell: Callable[[], None]
    ) -> Difference:
        """Paired by unit; the spread of units and that of seeds are both in the interval."""
        apart: list[np.ndarray] = []
        scores: list[list[float]] = [[], []]
        for seed in seeds:
            ours, theirs = self._judged(self._history, [best, page], seed)
            apart.append(linearised(ours) - linearised(theirs))
            scores[0].append(value_of(ours))
            scores[1].append(value_of(theirs))
            tell()
            tell()
        by_unit = np.mean(apart, axis=0)  # [n]
        by_seed = np.array(scores[0]) - np.array(scores[1])
        half = math.inf
        if len(by_unit) > 1 and len(by_seed) > 1:
            # few seeds tell their own spread badly, so its part has Student's wider quantile
            outside = 0.5 + CONFIDENCE / 2
            of_units = scipy.stats.norm.ppf(outside) ** 2 * np.var(by_unit, ddof=1) / len(by_unit)
            student = scipy.stats.t.ppf(outside, len(by_seed) - 1)
            of_seeds = student**2 * np.var(by_seed, ddof=1) / len(by_seed)
            if spread := float(of_units + of_seeds):
                half = math.sqrt(spread)
        mean = float(np.mean(by_seed))
        return Difference(mean, mean - half, mean + half, *scores)

    def _judged(self, history: History, applications: Sequence[Application], seed: int) -> Any:
        """The first estimator's contributions for each, on the newest part of a history."""
        targets: list[Target] = []
        after_ms, mine = -1, history
        for application in applications:
            settings = replace(application.training, seed=seed, buffer=self._buffer)
            mine = history._replace(
                application=replace(
                    application, training=settings, reward=history.application.reward
                )
            )
            trained = train_on_history(mine, self._build, held_out=HELD_OUT)
            after_ms = trained.held_out_from_ms - 1
            with tempfile.TemporaryDirectory() as folder:
                targets.append(target_of(mine, trained, Path(folder)))
        found = material(mine.ring(), mine.application, targets, after_ms=after_ms)
        if found.logged.n == 0:
            raise BakehouseError(
                f"nothing in the newest {HELD_OUT:.0%} of the history can judge a policy: "
                f"{found.left_out}"
            )
        return [said[0] for said in found.by_target]

    @property
    def _buffer(self) -> int:
        return self._history.application.training.buffer


def earlier_part(history: History, share: float) -> History:
    """A history of the older decisions alone."""
    times = sorted({row.decision_id: row.decided_at_ms for row in history.arrivals}.values())
    cut_ms = times[min(int(len(times) * share), len(times) - 1)]
    kept = [row for row in history.arrivals if row.decided_at_ms < cut_ms]
    if not kept:
        raise BakehouseError(f"{len(times)} decisions are too few to search by: nothing is left")
    return history._replace(arrivals=kept)
