"""What each head makes of a network's numbers: one score for each choice.

Few contexts at once get what each would get alone, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from bakehouse_schemas.errors import BundleCorrupt
from bakehouse_schemas.policy.network import Array, refuse_unbounded

_T = TypeVar("_T")
_ZERO = np.zeros((), np.float32)
# Contexts that are answered in one call bit for bit as each would be alone. One matrix product of
# more rows adds up in another order: quicker for the thousands that a learner evaluates, and
# different in the last bits of float32.
TOGETHER = 64


def linear_moments(
    arrays: Mapping[str, Array], deviations: float, farthest: Array
) -> tuple[Callable[[Array], tuple[Array, Array]], float]:
    """`θᵀx` and `xᵀA⁻¹x` of each action, x with a leading 1, and the most that so many
    deviations can be (Li et al. 2010, LinUCB).

    `farthest` is the largest |x| of each dimension, [D].
    """
    try:
        theta = np.ascontiguousarray(arrays["theta"], np.float32)  # [A, 1 + D]
        inverse = np.ascontiguousarray(arrays["inverse"], np.float32)  # [A, 1 + D, 1 + D]
    except KeyError as error:
        raise BundleCorrupt(f"the linear head's array {error} is missing") from None
    if theta.ndim != 2 or inverse.shape != (*theta.shape, theta.shape[1]):
        raise BundleCorrupt(f"theta {theta.shape} and inverse {inverse.shape} do not fit")
    if theta.shape[1] != 1 + len(farthest):
        raise BundleCorrupt(f"theta {theta.shape} does not fit {len(farthest)} dimensions and a 1")
    reach = np.concatenate([[1.0], farthest])  # [1 + D]
    means = np.abs(theta).astype(np.float64) @ reach  # [A]
    spreads = np.abs(inverse).astype(np.float64) @ reach @ reach  # [A]
    refuse_unbounded(spreads, "spread of the linear head")
    bonus = deviations * np.sqrt(spreads)
    refuse_unbounded(means + bonus, "score of the linear head")

    def moments(x: Array) -> tuple[Array, Array]:
        x1 = np.concatenate([np.ones((len(x), 1), np.float32), x], axis=1)  # [B, 1 + D]
        if len(x1) > TOGETHER:
            mean = x1 @ theta.T  # [B, A]
            spread = np.einsum("abi,bi->ba", x1 @ inverse, x1)
        else:
            mean = np.matmul(x1[:, None], theta.T)[:, 0]
            spread = (np.matmul(x1[:, None, None], inverse)[:, :, 0] * x1[:, None]).sum(axis=2)
        return mean, np.maximum(spread, _ZERO)

    return moments, float(bonus.max())


def categorical_values(
    arrays: Mapping[str, Array], actions: int, width: int
) -> Callable[[Array], Array]:
    """Expected value of each action's categorical distribution (Bellemare et al. 2017, C51)."""
    try:
        support = np.ascontiguousarray(arrays["support"], np.float32)  # [N]
    except KeyError as error:
        raise BundleCorrupt(f"the c51 head's array {error} is missing") from None
    if support.ndim != 1 or not len(support) or width != actions * len(support):
        raise BundleCorrupt(
            f"{width} numbers come from the network for {actions} actions; expected "
            f"{len(support) if support.ndim == 1 else support.shape} for each"
        )
    refuse_unbounded(np.abs(support).astype(np.float64), "support of the c51 head")

    def expected(logits: Array) -> Array:
        logits = logits.reshape(len(logits), actions, len(support))
        weight = np.exp(logits - logits.max(axis=2, keepdims=True))
        return np.asarray(weight.dot(support) / weight.sum(axis=2))  # [B, A]

    return expected


def each_alone(network: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """A network `[B, D]` → `[B, K]`, of few rows row by row; see TOGETHER."""

    def run(x: Array) -> Array:
        return network(x[:, None])[:, 0] if 1 < len(x) <= TOGETHER else network(x)

    return run


def head_after(
    network: Callable[[Array], Array], head: Callable[[Array], _T]
) -> Callable[[Array], _T]:
    """A head of the network's answer, as one function of what the network sees, `[B, D]`."""
    return lambda x: head(network(x))


def optimistic(
    posterior: Callable[[Array], tuple[Array, Array]], alpha: float
) -> Callable[[Array], Array]:
    """`mean + alpha · √spread` of each action, `[B, A]`, out of both."""

    def score(x: Array) -> Array:
        mean, spread = posterior(x)
        return np.asarray(mean + alpha * np.sqrt(spread))

    return score


def expected_score(posterior: Callable[[Array], tuple[Array, Array]]) -> Callable[[Array], Array]:
    """The mean of each action, `[B, A]`, out of mean and spread."""
    return lambda x: posterior(x)[0]
