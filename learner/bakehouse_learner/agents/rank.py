"""`rank`: a network scores each item; a list is earned for by its items, as far as they are seen.

A game tells what a whole list earned, not which item did. Under the position-based model (Craswell
et al. 2008, https://doi.org/10.1145/1341531.1341545) a list earns what its items would, each as
often as its place is looked at:

    E[reward | list] = Σ_j seen_j · score(observation, item_j),    Σ_j seen_j = 1

Scores and places are learned together, by the squared error of the list's reward. So a score is
what a list of nothing but such items would earn, and to answer the items by descending score is
best wherever earlier places are seen more. No importance weights are needed, which over the
places of a list multiply: the mean is modelled given what was shown, whoever chose it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bakehouse_learner.agents.common.described import score_each, scorer
from bakehouse_learner.agents.common.gradient import GradientAgent
from bakehouse_learner.agents.common.readouts import Arrays, Operations, Values
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.normaliser import item_normaliser
from bakehouse_learner.training.reward_scale import RewardScale
from bakehouse_learner.training.specs import Minibatch
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.policy.policy import Head

LEAST_TEMPERATURE = 1e-6  # that a head can have


def build(setup: Setup) -> TrainableAgent:
    """The agent of rankings; its head in a bundle draws lists from the scores (Plackett–Luce)."""
    return RankAgent(setup)


class ListModel:
    """What a list of items earns. Variables: the scorer's, how places are seen, an empty place.

    Args:
        slots: places of a list, k.
    """

    def __init__(self, scorer: Any, slots: int) -> None:
        self._scorer = scorer
        # at first as an even prior of search engines has it, DCG's discount
        discount = 1.0 / np.log2(np.arange(2, slots + 2))
        self.seen = tf.Variable(np.log(discount), dtype=tf.float32, name="seen")
        self.empty = tf.Variable(0.0, name="empty")
        self.layers = scorer.layers

    @property
    def trainable_weights(self) -> list[Any]:
        """Those of the scorer first."""
        return [*self._scorer.trainable_weights, self.seen, self.empty]

    @property
    def variables(self) -> list[Any]:
        """Those of the scorer first."""
        return [*self._scorer.variables, self.seen, self.empty]

    def __call__(self, values: Any, items: Any, *, training: bool = False) -> Any:
        """Scores of items: `[B, D]`, `[B, C, F]` → `[B, C]`."""
        return score_each(self._scorer, values, items, training=training)

    def earned(self, values: Any, items: Any, places: Any) -> Any:
        """Mean reward of lists, in units: `[B, D]`, `[B, A, F]`, places int `[B, k]` → `[B]`.

        −1 is an empty place: it earns what empty places do, which is learned as well.
        """
        shown = tf.gather(items, tf.maximum(places, 0), batch_dims=1)  # [B, k, F]
        scores = tf.where(places >= 0, self(values, shown, training=True), self.empty)
        return tf.linalg.matvec(scores, tf.nn.softmax(self.seen))


class RankAgent(GradientAgent):
    """Trains an item scorer and how places are seen, by the squared error of what lists earn."""

    def __init__(self, setup: Setup) -> None:
        model = ListModel(scorer(setup), setup.application.shape.slots)
        self._describe = item_normaliser(setup.application)

        def loss(batch: Minibatch) -> Any:
            places = tf.cast(batch.action, tf.int32)
            error = model.earned(batch.values, batch.items, places) - batch.reward
            return tf.reduce_mean(batch.weight * error**2)

        super().__init__(
            setup,
            network=model,
            loss=loss,
            learning_rate=setup.parameters["learning_rate"],
            centred=True,
            readout=_Worths(setup.parameters["temperature"]),
        )

    def score_tensor(self, observation: Any, items: Any = None) -> Any:
        """Scores as a TensorFlow graph: float32 `[B, D]`, `[B, A, F]` → `[B, A]`."""
        offset, scale, clip = self._describe
        described = tf.clip_by_value((items - offset) * scale, -clip, clip)
        return self._readout.scores(
            self._network(self._values(observation), described), self._scale
        )

    def scores(self, observation: np.ndarray, items: np.ndarray | None = None) -> np.ndarray:
        """TensorFlow's own scores; the export must equal them."""
        described = tf.constant(items, tf.float32)
        return np.asarray(self.score_tensor(tf.constant(observation, tf.float32), described))


class _Worths(Values):
    """Outputs are the items' scores, in units of the reward's spread.

    Args:
        temperature: of the lists that are drawn, in the same unit.
    """

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature

    def export(self, network: Any, scale: RewardScale) -> tuple[Operations, Head, Arrays]:
        """The unit is in the last layer and in the temperature."""
        operations, _, arrays = super().export(network, scale)
        temperature = max(self._temperature * scale.unit, LEAST_TEMPERATURE)
        return operations, Head(kind="plackett_luce", temperature=temperature), arrays
