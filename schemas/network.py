"""The closed vocabulary of operations that a policy bundle can carry, run in NumPy.

No TensorFlow and no pickle: a network is a list of named operations over named arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from schemas.errors import BundleCorrupt, UnsupportedOperation

Array = np.ndarray
# What a sum of float32 products can reach and still be far from infinity.
LARGEST = 1e37
Operation = dict[str, Any]  # {"op": "dense", "weight": "w0", "bias": "b0"}, {"op": "relu"}


def _elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


_ZERO = np.zeros((), np.float32)

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, _ZERO),
    "tanh": np.tanh,
    "elu": _elu,
}
MOST_OPERATIONS = 1_000
OPERATIONS = frozenset({"dense", *ACTIVATIONS})


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
        if name != "dense":
            steps.append(ACTIVATIONS[operation["op"]])
            continue
        try:
            weight = np.ascontiguousarray(arrays[operation["weight"]], dtype=np.float32)
            bias = np.ascontiguousarray(arrays[operation["bias"]], dtype=np.float32)
        except KeyError as error:
            raise BundleCorrupt(f"the network names an array {error} that is not there") from None
        if (
            weight.ndim != 2
            or bias.shape != weight.shape[1:]
            or (width is not None and weight.shape[0] != width)
        ):
            raise BundleCorrupt(
                f"layer {operation['weight']} has shape {weight.shape} and bias {bias.shape}; "
                f"expected ({width}, n) and (n,)"
            )
        width = weight.shape[1]
        steps.append(_dense(weight, bias, rectified=after == "relu"))

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
        if operation["op"] == "dense":
            weight, bias = arrays[operation["weight"]], arrays[operation["bias"]]
            if weight.shape[0] != len(farthest):
                raise BundleCorrupt(
                    f"layer {operation['weight']} has shape {weight.shape}; expected "
                    f"({len(farthest)}, n)"
                )
            farthest = farthest @ np.abs(weight).astype(np.float64) + np.abs(bias)
            refuse_unbounded(farthest, f"answer of layer {operation['weight']}")
        elif operation["op"] == "tanh":
            farthest = np.minimum(farthest, 1.0)
        elif operation["op"] == "elu":
            farthest = np.maximum(farthest, 1.0)
    return farthest


def refuse_unbounded(farthest: Array, what: str) -> None:
    """Raise BundleCorrupt where `farthest` says that `what` may come near float32's limit."""
    if not np.all(farthest <= LARGEST):  # so that NaN is refused
        raise BundleCorrupt(
            f"the {what} may reach {np.max(farthest):g}; beyond {LARGEST:g} it is not surely a "
            "finite number"
        )


def _dense(weight: Array, bias: Array, *, rectified: bool) -> Callable[[Array], Array]:
    # `dot` and work in place: on the one row of a request, calls cost more than arithmetic

    def dense(x: Array) -> Array:
        y: Array = x.dot(weight)
        y += bias
        return y

    def dense_relu(x: Array) -> Array:
        y: Array = x.dot(weight)
        y += bias
        np.maximum(y, _ZERO, out=y)
        return y

    return dense_relu if rectified else dense
