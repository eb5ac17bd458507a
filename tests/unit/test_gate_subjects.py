"""Chance put players into the holdout, not their episodes: the gate compares players."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bakehouse_learner.gate.evidence import Collector
from bakehouse_learner.gate.progressive_evaluation import ProgressiveEvaluation
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.replay.row_decoder import RowDecoder
from bakehouse_learner.statistics.difference import DifferenceSequence
from bakehouse_learner.training.normaliser import static_normaliser
from bakehouse_schemas.application.application import Agent, Episodic, Rollout, seconds
from tests.learner_fakes import GAME
from tests.replay_rows import T0, arrow, decision, outcome

CHAIN = replace(
    GAME,
    problem=Episodic(discount=1.0, n_step=1, timeout=seconds(30)),
    agent=Agent("dqn"),
    rollout=Rollout(holdout=0.5),
)


def evaluated(players: int | None) -> ProgressiveEvaluation:
    """120 episodes of one decision each for either side; of the policy's two of three are won.

    Args:
        players: of each side; None: the log does not know them.
    """
    ring, rows = Ring(CHAIN), list[dict[str, Any]]()
    for at in range(240):
        side = "policy" if at % 2 else "holdout"
        row = decision(CHAIN, {"x": 0.5}, "left", at_ms=T0 + 10 * at, cohort=side,
                       propensity=0.9 if at % 2 else 1.0, policy_version=2 * (at % 2),
                       subject_id=players and f"{side}-{at // 2 % players}")  # fmt: skip
        won = [outcome(row, "won", after_ms=5)] if at % 6 in (1, 3) else []
        rows += [row, *won, outcome(row, kind="end", after_ms=6)]
    normaliser = static_normaliser(CHAIN.encoder.bounds())
    assert normaliser is not None
    collector = Collector(CHAIN, ring, normaliser)
    ring.ingest(RowDecoder(CHAIN).decode(arrow(rows)))
    ring.mature(T0 + 60_000)
    ring.base_propensity[: ring.size] = ring.propensity[: ring.size]
    assert collector.take_episodes() == 240
    return collector.evaluation


@pytest.mark.parametrize("players", [60, None])
def test_episodes_of_many_players_are_evidence(players: int | None) -> None:
    """Where a log does not know its players, each episode is somebody's."""
    found = evaluated(players).episodes
    assert found.n == 240
    assert 0.3 < found.lower < found.mean < found.upper < 1.0
    assert found.mean == pytest.approx(2 / 3)


def test_as_many_episodes_of_few_players_are_none() -> None:
    found = evaluated(29).episodes
    assert found.n == 240
    assert (found.lower, found.upper) == (-np.inf, np.inf)


def test_an_evaluation_remembers_whose_its_episodes_were() -> None:
    first, second = evaluated(60), ProgressiveEvaluation(alpha=0.05, weight_cap=100.0)
    second.restore(json.loads(json.dumps(first.state())))
    assert second.episodes == first.episodes
    assert second.state() == first.state()


def test_what_an_earlier_release_kept_without_its_players_begins_anew() -> None:
    kept, again = DifferenceSequence(0.05), DifferenceSequence(0.1)
    kept.update(np.arange(60.0), np.arange(50.0))
    again.restore({"alpha": kept.state()["alpha"], "groups": []})
    assert (again.n, again.alpha, again.interval().upper) == (0, 0.05, np.inf)
