"""Keras layers as a bundle's operations, and the operations that a bundle cannot carry.

An application's network is its hidden part: a list of Keras layers, or a `tf.keras.Sequential`,
made by a function of the number of inputs. The agent adds the last layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bakehouse_learner.training.agent import Setup
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.errors import ApplicationError, UnsupportedOperation
from bakehouse_schemas.policy.activations import ACTIVATIONS
from bakehouse_schemas.policy.network import OPERATIONS

_DROPOUT_STREAM = 0x9E3779B9  # sets a network's masks apart from whatever else a seed draws


class SeededDropout(tf.keras.layers.Layer):  # type: ignore[misc]  # TensorFlow has no types
    """Dropout whose masks are a function of the seed and of how many were drawn.

    Keras's own cannot be continued from a checkpoint.
    """

    def __init__(self, rate: float, seed: int) -> None:
        super().__init__()
        self.rate, self.seed = float(rate), seed

    def build(self, shape: Any) -> None:
        """One counter, which checkpoints carry."""
        self.drawn = self.add_weight(
            name="drawn", shape=(), dtype=tf.int64, initializer="zeros", trainable=False
        )
        super().build(shape)

    def call(self, x: Any, training: bool = False) -> Any:
        """`x`, or a share of it scaled up while training."""
        if not training or self.rate == 0.0:
            return x
        seed = tf.stack([tf.constant(self.seed, tf.int64), self.drawn.assign_add(1)])
        kept = tf.random.stateless_uniform(tf.shape(x), seed) >= self.rate
        return tf.where(kept, x / (1.0 - self.rate), tf.zeros_like(x))


def hidden_layers(setup: Setup, inputs: int | None = None) -> list[Any]:
    """The hidden part, fresh: of `hidden=[…]`, or of the application's own `network`.

    Args:
        inputs: numbers that it reads, where it is more than the observation.

    Raises:
        UnsupportedOperation: layers that a bundle cannot carry, by name.
        ApplicationError: the builder failed, or gave something else than layers.
    """
    builder = setup.parameters.get("network")
    if builder is None:
        return [
            tf.keras.layers.Dense(width, activation="relu") for width in setup.parameters["hidden"]
        ]
    return built_layers(builder, inputs or setup.application.encoder.size, seed=setup.seed)


def built_layers(builder: Callable[[int], Any], inputs: int, *, seed: int = 0) -> list[Any]:
    """The layers that a builder makes for so many inputs; see `hidden_layers`."""
    name = getattr(builder, "__name__", "network")
    try:
        made = builder(inputs)
    except Exception as error:
        raise ApplicationError(
            f"network {name}({inputs}) failed: {type(error).__name__}: {error}"
        ) from error
    layers = made.layers if isinstance(made, tf.keras.Sequential) else made
    if not isinstance(layers, (list, tuple)) or not all(
        isinstance(layer, tf.keras.layers.Layer) for layer in layers
    ):
        raise ApplicationError(
            f"network {name}({inputs}) gave {type(made).__name__}; expected a tf.keras.Sequential "
            "or a list of Keras layers, the hidden part alone (tf_keras, Keras 2)"
        )
    layers = [layer for layer in layers if not isinstance(layer, tf.keras.layers.InputLayer)]
    outside = sorted({problem for layer in layers for problem in _outside(layer)})
    if outside:
        raise UnsupportedOperation(
            f"network {name}: a bundle cannot carry {', '.join(outside)}; it can carry "
            f"{', '.join(sorted(OPERATIONS))} and dropout"
        )
    fresh = []
    for at, layer in enumerate(layers):
        if isinstance(layer, tf.keras.layers.Dropout):
            fresh.append(SeededDropout(layer.rate, (seed ^ _DROPOUT_STREAM) + at))
            continue
        described = layer.get_config()
        for builtin in ("batch_input_shape", "name"):  # of the model that it was written in
            described.pop(builtin, None)
        fresh.append(type(layer).from_config(described))
    return fresh


def operations_of(layers: Sequence[Any]) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Operations and arrays of layers that are built; that of `common.duelling` is folded."""
    operations: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for at, layer in enumerate(layers):
        if hasattr(layer, "folded"):
            arrays[f"w{at}"], arrays[f"b{at}"] = layer.folded()
            operations.append({"op": "dense", "weight": f"w{at}", "bias": f"b{at}"})
        elif isinstance(layer, tf.keras.layers.Dense):
            arrays[f"w{at}"], arrays[f"b{at}"] = layer.kernel.numpy(), layer.bias.numpy()
            operations.append({"op": "dense", "weight": f"w{at}", "bias": f"b{at}"})
        elif isinstance(layer, tf.keras.layers.LayerNormalization):
            arrays[f"w{at}"], arrays[f"b{at}"] = layer.gamma.numpy(), layer.beta.numpy()
            operations.append(
                {
                    "op": "layer_norm",
                    "weight": f"w{at}",
                    "bias": f"b{at}",
                    "epsilon": float(layer.epsilon),
                }
            )
        elif isinstance(layer, tf.keras.layers.LeakyReLU):
            operations.append({"op": "leaky_relu", "slope": float(layer.alpha)})
        activation = _activation(layer)
        if activation is not None:
            operations.append({"op": activation})
    return operations, arrays


def _activation(layer: Any) -> str | None:
    """Name of the activation that ends a layer; None where there is none."""
    if isinstance(layer, tf.keras.layers.ReLU):
        return "relu"
    if isinstance(layer, tf.keras.layers.ELU):
        return "elu"
    function = getattr(layer, "activation", None)
    name = getattr(function, "__name__", "linear")
    return None if name == "linear" else {"silu": "swish"}.get(name, name)


def _outside(layer: Any) -> list[str]:
    """What of a layer a bundle cannot carry, in words."""
    keras, kind = tf.keras.layers, type(layer)
    described = layer.get_config()
    if kind in (keras.Dense, keras.Activation):
        problems = []
        if kind is keras.Dense and not layer.use_bias:
            problems.append("Dense(use_bias=False)")
        activation = _activation(layer)
        if activation is not None and activation not in ACTIVATIONS:
            problems.append(f"the activation {activation}")
        return problems
    plain: dict[Any, dict[str, Any]] = {
        keras.ReLU: {"max_value": None, "negative_slope": 0.0, "threshold": 0.0},
        keras.ELU: {"alpha": 1.0},
        keras.LeakyReLU: {},
        keras.LayerNormalization: {"center": True, "scale": True},
        keras.Dropout: {"noise_shape": None},
    }
    if kind not in plain:
        return [kind.__name__]
    described = {
        name: value.item() if isinstance(value, np.ndarray) else value
        for name, value in described.items()
    }
    changed = [
        f"{name}={described[name]!r}"
        for name, value in plain[kind].items()
        if described[name] != value
    ]
    if kind is keras.LayerNormalization and described["axis"] not in (-1, 1, [-1], [1]):
        changed.append(f"axis={described['axis']!r}")
    return [f"{kind.__name__}({', '.join(changed)})"] if changed else []
