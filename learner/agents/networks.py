"""Multilayer perceptrons as TF-Agents networks, and as a bundle's operations."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from learner.tensorflow_setup import tf

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the reasons stand in learner.tensorflow_setup
    from tf_agents.networks import sequential


def perceptron(values: Any, hidden: Sequence[int], outputs: int, *, seed: int) -> Any:
    """A TF-Agents network `[B, D]` → `[B, outputs]` with ReLU between layers.

    Hidden layers are drawn uniformly in ±√(6 / inputs) (He et al. 2015), biases in
    ±1 / √inputs, from NumPy's generator, so a seed means the same in every version of
    TensorFlow. The last layer starts at zero: the first prediction is the mean for every action,
    and no accident of the draw prefers one.
    """
    layers = [tf.keras.layers.Dense(width, activation="relu") for width in hidden]
    network = sequential.Sequential(
        [*layers, tf.keras.layers.Dense(outputs)], input_spec=values, name="Perceptron"
    )
    network.create_variables()
    rng = np.random.default_rng(seed)
    for kernel, bias in dense_layers(network)[:-1]:
        inputs, width = kernel.shape
        kernel.assign(rng.uniform(-1, 1, (inputs, width)) * np.sqrt(6 / inputs))
        bias.assign(rng.uniform(-1, 1, width) / np.sqrt(inputs))
    kernel, bias = dense_layers(network)[-1]
    kernel.assign(tf.zeros_like(kernel))
    bias.assign(tf.zeros_like(bias))
    return network


def dense_layers(network: Any) -> list[tuple[Any, Any]]:
    """Variables (kernel `[inputs, width]`, bias `[width]`) of each layer, in order."""
    return [(layer.kernel, layer.bias) for layer in network.layers]


def export_perceptron(
    network: Any, *, offset: float, unit: float
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Operations and arrays of `offset + unit · network(x)`; see `schemas.network`."""
    operations: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    layers = dense_layers(network)
    for at, (kernel, bias) in enumerate(layers):
        weight, shift = kernel.numpy(), bias.numpy()
        if at == len(layers) - 1:
            weight = (weight.astype(np.float64) * unit).astype(np.float32)
            shift = (shift.astype(np.float64) * unit + offset).astype(np.float32)
        arrays[f"w{at}"], arrays[f"b{at}"] = weight, shift
        operations.append({"op": "dense", "weight": f"w{at}", "bias": f"b{at}"})
        operations.append({"op": "relu"})
    return operations[:-1], arrays
