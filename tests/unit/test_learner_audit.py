"""Anchors are kept beside the training, not in its way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bakehouse_learner.artifacts.anchor_archive import Anchor, AnchorArchive
from bakehouse_learner.training.agent import Setup
from bakehouse_learner.training.normaliser import static_normaliser
from bakehouse_schemas.application.application import Application, Discrete, seconds
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.reward import Reward
from tests.learner_fakes import LinearAgent

GAME = Application(
    name="game",
    observation=[Numeric("x", low=0, high=1)],
    actions=Discrete("a", "b"),
    reward=Reward({"won": 1.0}, window=seconds(10)),
    baseline=lambda context: "a",
)


def setup() -> Setup:
    normaliser = static_normaliser(GAME.encoder.bounds())
    assert normaliser is not None
    return Setup(GAME, normaliser, 0)


def anchor(version: int, weight: float) -> Anchor:
    state = {"weight": np.full((1, 2), weight, np.float32), "bias": np.zeros(2, np.float32)}
    return Anchor(setup(), version, state)


def save(folder: Path, agent: Any, of: Setup) -> None:
    folder.mkdir()
    (folder / "weight").write_text(f"{of.application.name} {agent.weight[0, 0]}")


def test_an_anchor_is_written_with_the_weights_that_it_had(tmp_path: Path) -> None:
    audit = AnchorArchive(tmp_path, LinearAgent, save)
    audit.keep(anchor(3, 0.5))
    audit.keep(anchor(4, 0.75))  # within a minute: not kept
    audit.start()
    audit.stop()
    assert (tmp_path / "game" / "3" / "weight").read_text() == "game 0.5"
    assert not (tmp_path / "game" / "4").exists()
    assert (audit.saved, audit.failures) == (1, 0)


def test_a_failure_is_counted_and_nothing_else(tmp_path: Path) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no graph")

    audit = AnchorArchive(tmp_path, LinearAgent, fail)
    audit.keep(anchor(3, 0.5))
    audit.start()
    audit.stop()
    assert (audit.saved, audit.failures) == (0, 1)
