"""How an episodic application of numbers leaves version 0: the collector's estimate, in a world."""

from __future__ import annotations

import numpy as np
import pytest

from bakehouse_learner.gate.evidence import Collector
from bakehouse_learner.offline.simulation.virtual_players import (
    Answering,
    VirtualPlayers,
    version_zero,
)
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.training.normaliser import static_normaliser
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.policy.policy import Head, Policy
from bakehouse_schemas.worlds.share import Logged, episodic_values
from tests.worlds import kiln

ROW_MS = 100
LATE = kiln.application.exploration.after(1 << 40)
HEATS = {"as it should be": kiln.HEAT, "all hot": dict.fromkeys(kiln.FIRINGS, 0.95)}


def policy(heat: dict[str, float]) -> Policy:
    """Answers each firing with its heat, a share of the range."""
    application = kiln.application
    normaliser = static_normaliser(application.encoder.bounds())
    assert normaliser is not None
    weight = np.zeros((application.encoder.size, 1), np.float32)
    contexts = [{"firing": firing, "clay": "red"} for firing in kiln.FIRINGS]
    for context, wanted in zip(contexts, heat.values(), strict=True):
        weight[application.encoder.encode(context).argmax()] = np.arctanh(2 * wanted - 1)
    return Policy(
        operations=[{"op": "dense", "weight": "w", "bias": "b"}, {"op": "tanh"}],
        head=Head(kind="gaussian"),
        arrays={"w": weight, "b": np.zeros(1, np.float32), **normaliser.arrays()},
        actions=application.shape,
    )


def played(answering: Answering, decisions: int) -> tuple[Ring, list[Logged]]:
    """What players did under one policy, as far as it is known when the last decision is made."""
    rng = np.random.default_rng(3)
    players = VirtualPlayers(kiln.application, kiln.world, 200.0, rng, ROW_MS)
    ring, made = Ring(kiln.application), []
    while players.decisions < decisions:
        made += players.play(players.now_ms + 200, answering, most=decisions - players.decisions)
        ring.ingest(players.rows(players.now_ms))
    ring.mature(players.now_ms - ROW_MS)
    ring.time_out(players.now_ms - ROW_MS)
    return ring, made


def worth(answering: Answering) -> float:
    """Expected return of an episode, as the world itself knows it."""
    _, made = played(answering, 3_000)
    return episodic_values(kiln.world, kiln.application, made).policy


@pytest.mark.parametrize("which", sorted(HEATS))
def test_the_estimate_out_of_version_0_covers_what_the_world_knows(which: str) -> None:
    application, candidate = kiln.application, policy(HEATS[which])
    ring, _ = played(version_zero(application), 2_000)
    normaliser = static_normaliser(application.encoder.bounds())
    assert normaliser is not None
    collector = Collector(application, ring, normaliser)
    collector.complete()
    collector.take_episodes()
    evidence = collector.evidence(candidate, untried=True, at_ms=0, exploration=LATE)
    assert evidence.label == "weighted TD difference, an estimate"
    assert evidence.leaving is not None
    truth = worth(Answering(1, candidate, LATE)) - worth(version_zero(application))
    assert evidence.leaving.lower < truth < evidence.leaving.upper
    assert (evidence.leaving.lower > 0) == (which == "as it should be")


def test_before_anything_was_played_there_is_no_estimate() -> None:
    application = kiln.application
    normaliser = static_normaliser(application.encoder.bounds())
    assert normaliser is not None
    collector = Collector(application, Ring(application), normaliser)
    evidence = collector.evidence(
        policy(kiln.HEAT), untried=True, at_ms=0, exploration=Exploration(kind="none")
    )
    assert evidence.leaving is not None
    assert (evidence.leaving.lower, evidence.leaving.upper) == (-np.inf, np.inf)
