"""The one adapter that every agent is behind: train, distribution, export, state.

A new agent is one file, `learner/bakehouse_learner/agents/<name>.py`, with a function
`build(setup: Setup) -> TrainableAgent`, and one entry in
`bakehouse_schemas.application.agents.AGENTS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from bakehouse_learner.training.batch import Batch, Rows
from bakehouse_learner.training.normaliser import Normaliser
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.policy.policy import Head

if TYPE_CHECKING:  # it needs TensorFlow, which an agent may not
    from bakehouse_learner.training.autoencoder import Compressor


class Exported(NamedTuple):
    """What a bundle carries of an agent; see `bakehouse_schemas.policy.policy.Policy`."""

    operations: list[dict[str, Any]]
    head: Head
    arrays: dict[str, np.ndarray]  # the normaliser's included


@dataclass(frozen=True)
class Setup:
    """All that an agent is built from."""

    application: Application
    normaliser: Normaliser
    seed: int
    compressor: Compressor | None = None  # of normalised observations, before the agent

    @property
    def parameters(self) -> dict[str, Any]:
        """The agent's settings, defaults included."""
        return self.application.agent.parameters


class TrainableAgent(Protocol):
    """What the learner asks of an agent. Deterministic under the setup's seed."""

    learns_from_minibatches: bool  # by `train`
    prioritised: bool  # minibatches are to be drawn by `row_errors`; see `training.priorities`
    learns_from_ring: bool  # by `fit` on all rows, after `train` where it does both

    @property
    def row_errors(self) -> np.ndarray | None:
        """|error| of the rows of the last `train`, where prioritised; NaN: none. `[N, B]`"""

    def train(self, batch: Batch) -> dict[str, float]:
        """Take N gradient steps in one compiled call; mean losses by name.

        Non-finite rewards are the caller's to exclude; a non-finite loss is returned as it is.
        """

    def fit(self, rows: Rows) -> dict[str, float]:
        """Recompute linear statistics from all rows; losses by name."""

    def scores(self, observation: np.ndarray) -> np.ndarray:
        """TensorFlow's own scores, float32 `[B, D]` → `[B, A]`; the export must equal them."""

    def export(self) -> Exported:
        """The policy as plain arrays."""

    def state(self) -> Mapping[str, np.ndarray]:
        """Everything that training has changed (weights, optimiser, steps), for checkpoints."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue as if the agent that gave `state` had never stopped."""
