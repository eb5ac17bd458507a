"""Networks as agents train them: hidden layers, and a last layer that is linear."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from bakehouse_learner.agents.common.keras_layers import hidden_layers, operations_of
from bakehouse_learner.training.agent import Setup
from bakehouse_learner.training.tensorflow_setup import tf

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore"
    )  # the reasons stand in bakehouse_learner.training.tensorflow_setup
    from tf_agents.networks import sequential


def perceptron(setup: Setup, values: Any, outputs: int) -> Any:
    """A TF-Agents network `[B, D]` → `[B, outputs]`, as the application writes it."""
    hidden = hidden_layers(setup, values.shape[0])
    return network_of(values, hidden, tf.keras.layers.Dense(outputs), seed=setup.seed)


def network_of(values: Any, hidden: Sequence[Any], last: Any, *, seed: int) -> Any:
    """A TF-Agents network of these Keras layers, its variables created.

    Kernels of hidden layers are drawn uniformly in ±√(6 / inputs) (He et al. 2015), biases in
    ±1 / √inputs, from NumPy's generator, so a seed means the same in every version of
    TensorFlow. The last layer starts at zero: the first prediction is the same for every action,
    and no accident of the draw prefers one.

    Args:
        values: the input's spec, float32 `[D]`
        last: a Dense layer, or one that folds into one; see
            `bakehouse_learner.agents.common.duelling`.
    """
    network = sequential.Sequential([*hidden, last], input_spec=values, name="Perceptron")
    network.create_variables()
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
    target = network.copy(name="Target")
    target.create_variables()
    copy_to(network, target)
    return target


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
