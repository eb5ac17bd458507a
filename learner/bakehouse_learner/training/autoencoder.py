"""An autoencoder of observations: fitted once, then frozen, like the normaliser before it.

Its encoder is two layers in the bundle's own vocabulary, so that serving runs it as the policy's
first layers; every weight learned behind it assumes it, so changing it starts a lineage.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.application.compression import Compression
from bakehouse_schemas.policy.network import compile_network

BATCH = 256
LEARNING_RATE = 1e-3
ENCODER = [
    {"op": "dense", "weight": "encoder_w0", "bias": "encoder_b0"},
    {"op": "relu"},
    {"op": "dense", "weight": "encoder_w1", "bias": "encoder_b1"},
    {"op": "tanh"},
]
DECODER = [
    {"op": "dense", "weight": "decoder_w0", "bias": "decoder_b0"},
    {"op": "relu"},
    {"op": "dense", "weight": "decoder_w1", "bias": "decoder_b1"},
]


class Compressor(NamedTuple):
    """A fitted autoencoder.

    Args:
        arrays: weights by name; those of ENCODER go into bundles.
        spread: variance of the rows it was fitted on, summed over dimensions.
        lost: share of it that the code loses on rows that were held out.
    """

    arrays: dict[str, np.ndarray]
    spread: float
    lost: float

    @property
    def size(self) -> int:
        """Numbers of the code, Z."""
        return int(self.arrays["encoder_w1"].shape[1])

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Code of normalised observations: float32 `[…, D]` → `[…, Z]`, each in [−1, 1]."""
        return _run(ENCODER, self.arrays, values)

    def lost_of(self, values: np.ndarray) -> np.ndarray:
        """Squared error of each row as a share of the variance: float32 `[n, D]` → `[n]`.

        Its mean is the share of variance lost; above 1 says less than the mean would.
        """
        rebuilt = _run(DECODER, self.arrays, self.encode(values))
        return np.asarray(np.sum((rebuilt - values) ** 2, axis=1) / max(self.spread, 1e-12))

    def encoder_arrays(self) -> dict[str, np.ndarray]:
        """What a bundle carries."""
        return {name: a for name, a in self.arrays.items() if name.startswith("encoder_")}

    def state(self) -> dict[str, np.ndarray]:
        """Everything, for a checkpoint."""
        return self.arrays | {"figures": np.array([self.spread, self.lost])}


def compressor_from(state: dict[str, np.ndarray]) -> Compressor:
    """The inverse of `Compressor.state`."""
    arrays = {name: np.asarray(a) for name, a in state.items() if name != "figures"}
    spread, lost = state["figures"]
    return Compressor(arrays, float(spread), float(lost))


def _run(
    operations: list[dict[str, Any]], arrays: dict[str, np.ndarray], values: np.ndarray
) -> np.ndarray:
    flat = values.reshape(-1, values.shape[-1]).astype(np.float32)
    answer = compile_network(operations, arrays)(flat)
    return answer.reshape(*values.shape[:-1], answer.shape[-1])


def fit_compressor(spec: Compression, values: np.ndarray, *, seed: int) -> Compressor:
    """Fit an autoencoder by squared error (Hinton & Salakhutdinov 2006, without pretraining).

    Args:
        values: normalised observations, float32 `[n, D]`; a tenth is held out for `lost`.
        seed: of weights and minibatches; the same rows and seed give the same autoencoder.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(values))
    held_out, fitted = values[order[: len(values) // 10]], values[order[len(values) // 10 :]]
    arrays = _initial(spec, values.shape[1], rng)
    arrays["decoder_b1"] = fitted.mean(axis=0).astype(np.float32)  # nothing known: the mean
    variables = {name: tf.Variable(array) for name, array in arrays.items()}
    optimiser = tf.keras.optimizers.legacy.Adam(LEARNING_RATE)
    trained = list(variables.values())
    optimiser._create_all_weights(trained)

    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def step(batch: Any) -> Any:
        with tf.GradientTape() as tape:
            hidden = tf.nn.relu(batch @ variables["encoder_w0"] + variables["encoder_b0"])
            code = tf.tanh(hidden @ variables["encoder_w1"] + variables["encoder_b1"])
            hidden = tf.nn.relu(code @ variables["decoder_w0"] + variables["decoder_b0"])
            rebuilt = hidden @ variables["decoder_w1"] + variables["decoder_b1"]
            loss = tf.reduce_mean(tf.reduce_sum((rebuilt - batch) ** 2, axis=1))
        optimiser.apply_gradients(zip(tape.gradient(loss, trained), trained, strict=True))
        return loss

    for _ in range(spec.steps):
        step(tf.constant(fitted[rng.integers(0, len(fitted), BATCH)], tf.float32))
    found = Compressor(
        {name: variable.numpy() for name, variable in variables.items()},
        spread=float(fitted.var(axis=0).sum()),
        lost=0.0,
    )
    return found._replace(lost=float(found.lost_of(held_out).mean()))


def _initial(spec: Compression, dimensions: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    widths = [dimensions, spec.hidden, spec.size, spec.hidden, dimensions]
    names = ["encoder_{}0", "encoder_{}1", "decoder_{}0", "decoder_{}1"]
    arrays: dict[str, np.ndarray] = {}
    for name, inputs, width in zip(names, widths, widths[1:], strict=False):
        bound = np.sqrt(6 / (inputs + width))  # Glorot & Bengio 2010
        arrays[name.format("w")] = rng.uniform(-bound, bound, (inputs, width)).astype(np.float32)
        arrays[name.format("b")] = np.zeros(width, np.float32)
    return arrays
