"""Networks as agents train them: hidden layers, and a last layer that is linear."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from bakehouse_learner.agents.common.keras_layers import hidden_layers, operations_of
from bakehouse_learner.training.agent import Setup
from bakehouse_learner.training.tensorflow_setup import tf


class Network:
    """Keras layers, one after another: float32 `[B, D]` → `[B, K]`. Built when it is made.

    Args:
        layers: of this network alone.
        values: the input's spec, float32 `[D]`
    """

    def __init__(self, layers: Sequence[Any], values: Any) -> None:
        self.layers, self.values = list(layers), values
        with tf.name_scope("Perceptron"):  # what variables are called in models kept for audit
            self(tf.zeros([1, *values.shape]))

    def __call__(self, values: Any, *, training: bool = False) -> Any:
        for layer in self.layers:
            values = layer(values, training=training)
        return values

    @property
    def trainable_weights(self) -> list[Any]:
        """What a loss is differentiated by, layer by layer."""
        return [weight for layer in self.layers for weight in layer.trainable_weights]

    @property
    def variables(self) -> list[Any]:
        """All of them: the trainable ones, then the others. Checkpoints keep this order."""
        others = [weight for layer in self.layers for weight in layer.non_trainable_weights]
        return [*self.trainable_weights, *others]

    def copy(self) -> Network:
        """The same network with variables of its own."""
        return Network(copy.deepcopy(self.layers), self.values)


def perceptron(setup: Setup, values: Any, outputs: int) -> Network:
    """A network `[B, D]` → `[B, outputs]`, as the application writes it."""
    hidden = hidden_layers(setup, values.shape[0])
    return network_of(values, hidden, tf.keras.layers.Dense(outputs), seed=setup.seed)


def network_of(values: Any, hidden: Sequence[Any], last: Any, *, seed: int) -> Network:
    """A network of these Keras layers, its weights drawn.

    Kernels of hidden layers are drawn uniformly in ±√(6 / inputs) (He et al. 2015), biases in
    ±1 / √inputs, from NumPy's generator, so a seed means the same in every version of
    TensorFlow. The last layer starts at zero: the first prediction is the same for every action,
    and no accident of the draw prefers one.

    Args:
        values: the input's spec, float32 `[D]`
        last: a Dense layer, or one that folds into one; see
            `bakehouse_learner.agents.common.duelling`.
    """
    network = Network([*hidden, last], values)
    rng = np.random.default_rng(seed)
    for layer in network.layers[:-1]:
        if isinstance(layer, tf.keras.layers.Dense):
            inputs, width = layer.kernel.shape
            layer.kernel.assign(rng.uniform(-1, 1, (inputs, width)) * np.sqrt(6 / inputs))
            layer.bias.assign(rng.uniform(-1, 1, width) / np.sqrt(inputs))
    for variable in network.layers[-1].trainable_weights:
        variable.assign(tf.zeros_like(variable))
    return network


def target_of(network: Any) -> Any:
    """A slower copy of the network."""
    return network.copy()


def copy_to(network: Any, target: Any) -> None:
    """Make the target's variables those of the network."""
    for variable, slower in zip(network.variables, target.variables, strict=True):
        slower.assign(variable)


def last_layer(network: Any) -> tuple[Any, Any]:
    """Variables of a last Dense layer: kernel `[inputs, outputs]`, bias `[outputs]`."""
    layer = network.layers[-1]
    return layer.kernel, layer.bias


def export_network(
    network: Any, *, offset: float = 0.0, unit: float = 1.0
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Operations and arrays of `offset + unit · network(x)`, as a bundle carries them."""
    operations, arrays = operations_of(network.layers)
    last = operations[-1]  # the last layer's, which is linear
    weight, bias = (arrays[last[part]].astype(np.float64) for part in ("weight", "bias"))
    arrays[last["weight"]] = (weight * unit).astype(np.float32)
    arrays[last["bias"]] = (bias * unit + offset).astype(np.float32)
    return operations, arrays
