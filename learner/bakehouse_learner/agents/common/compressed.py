"""Any agent behind an autoencoder: it learns from the code, and its policy begins with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bakehouse_learner.training.agent import Exported, Setup, TrainableAgent
from bakehouse_learner.training.autoencoder import ENCODER, Compressor
from bakehouse_learner.training.batch import Batch, Rows
from bakehouse_learner.training.normaliser import Normaliser, static_normaliser
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.application.observation import Vector


class CompressedAgent:
    """An agent whose observations are codes.

    Args:
        agent: built by `inner_setup`.
    """

    def __init__(
        self, agent: TrainableAgent, normaliser: Normaliser, compressor: Compressor
    ) -> None:
        self._agent = agent
        self._normaliser = normaliser
        self._compressor = compressor
        self.learns_from_minibatches = agent.learns_from_minibatches
        self.learns_from_ring = agent.learns_from_ring
        self.prioritised = agent.prioritised

    @property
    def row_errors(self) -> np.ndarray | None:
        return self._agent.row_errors

    def train(self, batch: Batch) -> dict[str, float]:
        """See the agent's own."""
        return self._agent.train(
            batch._replace(
                observation=self._code(batch.observation),
                next_observation=self._code(batch.next_observation),
            )
        )

    def fit(self, rows: Rows) -> dict[str, float]:
        """See the agent's own."""
        return self._agent.fit(rows._replace(observation=self._code(rows.observation)))

    def scores(self, observation: np.ndarray) -> np.ndarray:
        """TensorFlow's own scores; the export must equal them."""
        return self._agent.scores(self._code(observation))

    def export(self) -> Exported:
        """The encoder's layers, then the agent's."""
        inner = self._agent.export()
        return Exported(
            [*ENCODER, *inner.operations],
            inner.head,
            inner.arrays | self._normaliser.arrays() | self._compressor.encoder_arrays(),
        )

    def state(self) -> Mapping[str, np.ndarray]:
        """The agent's; the encoder is frozen, and kept beside it."""
        return self._agent.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """See the agent's own."""
        self._agent.restore(state)

    @property
    def variables(self) -> list[Any]:
        """Every TensorFlow variable that the scores depend on."""
        found: list[Any] = self._agent.variables  # type: ignore[attr-defined]
        return found

    def score_tensor(self, observation: Any) -> Any:
        """Scores as a TensorFlow graph: float32 `[B, D]` → `[B, A]`."""
        offset, scale, clip = self._normaliser
        x = tf.clip_by_value((observation - offset) * scale, -clip, clip)
        arrays = self._compressor.arrays
        hidden = tf.nn.relu(x @ arrays["encoder_w0"] + arrays["encoder_b0"])
        code = tf.tanh(hidden @ arrays["encoder_w1"] + arrays["encoder_b1"])
        return self._agent.score_tensor(code)  # type: ignore[attr-defined]

    def _code(self, observation: np.ndarray) -> np.ndarray:
        return self._compressor.encode(self._normaliser.apply(observation))


def inner_setup(setup: Setup) -> Setup:
    """What the agent behind the encoder is built from: an observation that is the code."""
    assert setup.compressor is not None
    code = Vector("code", length=setup.compressor.size, low=-1, high=1)
    application = replace(
        setup.application,
        observation=[code],
        baseline=lambda _: None,
        hydrate=None,
        compression=None,
    )
    normaliser = static_normaliser(application.encoder.bounds())
    assert normaliser is not None
    return Setup(application, normaliser, setup.seed)
