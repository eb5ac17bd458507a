"""The closed vocabulary of operations that a policy bundle can carry, run in NumPy.

No TensorFlow and no pickle: a network is a list of named operations over named arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bakehouse_schemas.errors import BundleCorrupt, UnsupportedOperation
from bakehouse_schemas.numbers import in_short, is_finite
from bakehouse_schemas.policy.activations import ACTIVATIONS, BOUNDS

Array = np.ndarray
# What a sum of float32 products can reach and still be far from infinity.
LARGEST = 1e37
# {"op": "dense", "weight": "w0", "bias": "b0"}, {"op": "relu"}, {"op": "leaky_relu", "slope": 0.3},
# {"op": "layer_norm", "weight": "w1", "bias": "b1", "epsilon": 0.001}
Operation = dict[str, Any]


_ZERO = np.zeros((), np.float32)
MOST_OPERATIONS = 1_000
OPERATIONS = frozenset({"dense", "layer_norm", "leaky_relu", *ACTIVATIONS})


def check_operations(operations: Sequence[Operation]) -> None:
    """Raise UnsupportedOperation, naming all that are outside the vocabulary."""
    outside = sorted({str(o.get("op")) for o in operations} - OPERATIONS)
    if outside:
        raise UnsupportedOperation(
            f"a bundle cannot carry the operations {outside}; it can carry {sorted(OPERATIONS)}"
        )


def compile_network(
    operations: Sequence[Operation], arrays: Mapping[str, Array]
) -> Callable[[Array], Array]:
    """The network as one function of a batch: float32 `[B, D]` → `[B, K]`.

    Raises:
        UnsupportedOperation: an operation outside the vocabulary.
        BundleCorrupt: an array is missing, or shapes do not fit each other.
    """
    check_operations(operations)
    if len(operations) > MOST_OPERATIONS:
        raise BundleCorrupt(f"{len(operations)} operations came; at most {MOST_OPERATIONS}")
    steps: list[Callable[[Array], Array]] = []
    width: int | None = None
    names = ["", *(str(operation["op"]) for operation in operations), ""]
    for at, operation in enumerate(operations):
        before, name, after = names[at : at + 3]
        if before == "dense" and name == "relu":
            continue  # done in place by the layer before it
        if name in ACTIVATIONS:
            steps.append(ACTIVATIONS[name])
            continue
        if name == "leaky_relu":
            steps.append(_leaky_relu(_number(operation, "slope")))
            continue
        weight, bias = _weight_and_bias(operation, arrays)
        inputs, outputs = weight.shape[0], weight.shape[-1]
        dense = name == "dense"
        if (
            weight.ndim != (2 if dense else 1)
            or bias.shape != (outputs,)
            or width not in (None, inputs)
        ):
            expected = f"({width}, n) and (n,)" if dense else f"({width},) twice"
            raise BundleCorrupt(
                f"layer {operation['weight']} has shape {weight.shape} and bias {bias.shape}; "
                f"expected {expected}"
            )
        width = outputs
        if dense:
            steps.append(_dense(weight, bias, rectified=after == "relu"))
        else:
            steps.append(_layer_norm(weight, bias, _number(operation, "epsilon")))

    def run(x: Array) -> Array:
        for step in steps:
            x = step(x)
        return x

    return run


def check_bounded(
    operations: Sequence[Operation], arrays: Mapping[str, Array], farthest: Array
) -> Array:
    """Raise BundleCorrupt unless every number that a compiled network meets is finite.

    Interval arithmetic, so it holds for every input: `|y| ≤ |x|·|W| + |b|`.

    Args:
        farthest: largest |x| of each dimension of the input. float64 `[D]`

    Returns:
        The same of the output, `[K]`.
    """
    for operation in operations:
        name = operation["op"]
        if name in BOUNDS:
            farthest = BOUNDS[name](farthest)
            continue
        if name == "leaky_relu":
            farthest = farthest * max(1.0, abs(_number(operation, "slope")))
            refuse_unbounded(farthest, "answer of a leaky_relu")
            continue
        weight, bias = (part.astype(np.float64) for part in _weight_and_bias(operation, arrays))
        if weight.shape[0] != len(farthest):
            raise BundleCorrupt(
                f"layer {operation['weight']} has shape {weight.shape}; expected "
                f"({len(farthest)}, n)"
            )
        if name == "layer_norm":
            # its inside squares what comes, and no number of n lies beyond √n deviations
            refuse_unbounded(4.0 * farthest.max(initial=0.0) ** 2, "inside of a layer_norm")
            farthest = np.sqrt(len(farthest)) * np.abs(weight) + np.abs(bias)
        else:
            farthest = farthest @ np.abs(weight) + np.abs(bias)
        refuse_unbounded(farthest, f"answer of layer {operation['weight']}")
    return farthest


def refuse_unbounded(farthest: Array, what: str) -> None:
    """Raise BundleCorrupt where `farthest` says that `what` may come near float32's limit."""
    if not np.all(farthest <= LARGEST):  # so that NaN is refused
        raise BundleCorrupt(
            f"the {what} may reach {np.max(farthest):g}; beyond {LARGEST:g} it is not surely a "
            "finite number"
        )


def _weight_and_bias(operation: Operation, arrays: Mapping[str, Array]) -> tuple[Array, Array]:
    try:
        weight, bias = (arrays[operation[part]] for part in ("weight", "bias"))
    except KeyError as error:
        raise BundleCorrupt(f"the network names an array {error} that is not there") from None
    if weight.ndim == 0:
        raise BundleCorrupt(f"layer {operation['weight']} is a single number")
    return np.ascontiguousarray(weight, np.float32), np.ascontiguousarray(bias, np.float32)


def _number(operation: Operation, name: str) -> float:
    """A setting of an operation."""
    value: Any = operation.get(name)
    least = 1e-12 if name == "epsilon" else -LARGEST
    if not is_finite(value) or not least <= value <= LARGEST:
        raise BundleCorrupt(
            f"operation {operation['op']!r} has {name} {in_short(value)}; expected a number from "
            f"{least:g} to {LARGEST:g}"
        )
    return float(value)


def _leaky_relu(slope: float) -> Callable[[Array], Array]:
    below = np.float32(slope)
    return lambda x: np.where(x > 0, x, below * x)


def _layer_norm(weight: Array, bias: Array, epsilon: float) -> Callable[[Array], Array]:
    """`(x − mean) / √(variance + ε) · weight + bias` (Ba et al. 2016)."""

    def layer_norm(x: Array) -> Array:
        y: Array = x - x.mean(axis=-1, keepdims=True)
        y /= np.sqrt((y * y).mean(axis=-1, keepdims=True) + np.float32(epsilon))
        y *= weight
        y += bias
        return y

    return layer_norm


def _dense(weight: Array, bias: Array, *, rectified: bool) -> Callable[[Array], Array]:
    # `dot` and work in place: on the one row of a request, calls cost more than arithmetic

    def dense(x: Array) -> Array:
        y: Array = x.dot(weight) if x.ndim == 2 else np.matmul(x, weight)
        y += bias
        return y

    def dense_relu(x: Array) -> Array:
        y: Array = x.dot(weight) if x.ndim == 2 else np.matmul(x, weight)
        y += bias
        np.maximum(y, _ZERO, out=y)
        return y

    return dense_relu if rectified else dense
