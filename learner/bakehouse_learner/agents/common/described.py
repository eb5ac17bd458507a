"""Networks that score a choice by what describes it: an action with features, or an item.

One network reads the observation and, behind it, the choice's features, and answers one score;
it is run once for each choice. So what is learned of one choice is carried over to its like.
`bakehouse_schemas.policy.policy` does the same with the bundle's arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bakehouse_learner.agents.common.networks import Network, perceptron
from bakehouse_learner.training.agent import Setup
from bakehouse_learner.training.normaliser import item_normaliser
from bakehouse_learner.training.specs import specs_of
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.application.actions import Discrete
from bakehouse_schemas.application.application import Application


def action_network(setup: Setup) -> Network | PerAction:
    """A network `[B, D]` → `[B, A]` of actions, described by features or not."""
    specs = specs_of(setup.application)
    if setup.application.shape.features == 0:
        return perceptron(setup, specs.values, specs.actions)
    return PerAction(scorer(setup), _described_actions(setup.application), specs.values)


def scorer(setup: Setup) -> Network:
    """A network `[N, D + F]` → `[N, 1]`."""
    width = setup.application.encoder.size + setup.application.shape.features
    return perceptron(setup, tf.TensorSpec([width], tf.float32, "described"), 1)


def score_each(of: Any, values: Any, described: Any, *, training: bool = False) -> Any:
    """Scores of choices: `[B, D]`, `[B, C, F]` → `[B, C]`."""
    choices, width = described.shape[1], values.shape[1] + described.shape[2]
    seen = tf.repeat(values[:, None], choices, axis=1)
    flat = tf.reshape(tf.concat([seen, described], axis=2), [-1, width])
    return tf.reshape(of(flat, training=training), [-1, choices])


def choice_arrays(application: Application) -> dict[str, np.ndarray]:
    """What a bundle carries of choices that are described; empty where none are."""
    if application.shape.features == 0:
        return {}
    arrays = item_normaliser(application).arrays("item")
    if isinstance(application.actions, Discrete):
        features = application.actions.feature_array()
        assert features is not None
        arrays["action_features"] = features
    return arrays


def _described_actions(application: Application) -> np.ndarray:
    """Normalised features of every action. float32 `[A, F]`"""
    assert isinstance(application.actions, Discrete)
    features = application.actions.feature_array()
    assert features is not None
    return item_normaliser(application).apply(features)


class PerAction:
    """A scorer over a fixed set of described actions: a network `[B, D]` → `[B, A]`.

    Args:
        scorer: see `scorer`; variables and layers are its own: the last answers one score.
        described: float32 `[A, F]`, normalised.
        values: the observation's spec.
    """

    def __init__(self, scorer: Network, described: np.ndarray, values: Any) -> None:
        self._scorer, self._described, self.values = scorer, described, values
        self.layers = scorer.layers

    @property
    def trainable_weights(self) -> list[Any]:
        """The scorer's."""
        return self._scorer.trainable_weights

    @property
    def variables(self) -> list[Any]:
        """The scorer's."""
        return self._scorer.variables

    def __call__(self, values: Any, *, training: bool = False) -> Any:
        rows = tf.shape(values)[0]
        described = tf.repeat(tf.constant(self._described)[None], rows, axis=0)
        described = tf.ensure_shape(described, [None, *self._described.shape])
        return score_each(self._scorer, values, described, training=training)

    def copy(self) -> PerAction:
        """The same network with variables of its own."""
        return PerAction(self._scorer.copy(), self._described, self.values)
