"""A policy: normaliser, network and head of a bundle, as one function in NumPy.

Serving answers with it, the learner evaluates with it: one implementation, so what is
evaluated is what is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import BundleCorrupt
from schemas.network import Array, check_bounded, compile_network, refuse_unbounded
from schemas.observation import FLOAT32_MAX
from schemas.thompson import probability_of_being_best

_T = TypeVar("_T")
_ZERO = np.zeros((), np.float32)


class Head(BaseModel):
    """How scores become probabilities.

    `linear` and `thompson` read arrays `theta` and `inverse`; `c51` reads `support [N]`, and its
    network answers N logits for each action.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["argmax", "softmax", "linear", "thompson", "c51"]
    alpha: float = 0.0  # linear: width of the optimistic bonus
    scale: float = Field(default=1.0, ge=0)  # thompson: deviation of a reward about its mean
    temperature: float = Field(default=1.0, ge=1e-6)  # softmax


class Policy:
    """The policy's own distribution, before exploration.

    Made only of arrays for which every score is finite, whatever observation comes: the
    normaliser bounds what the network sees, so this is known beforehand.

    Args:
        operations: the network (empty where the head takes the observation itself).
        head: how its scores become probabilities.
        arrays: `normaliser_offset [D]`, `normaliser_scale [D]`, `normaliser_clip []`, and what
            the network and head name.
        actions: number of actions, A.

    Raises:
        BundleCorrupt: arrays are missing, do not fit each other, or could answer no number.
        UnsupportedOperation: an operation outside the vocabulary.
    """

    # what overflows here is found by the checks, and refused with words, not by a warning
    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def __init__(
        self,
        *,
        operations: list[dict[str, Any]],
        head: Head,
        arrays: Mapping[str, Array],
        actions: int,
    ) -> None:
        for name, array in arrays.items():
            if not np.all(np.isfinite(array)):
                raise BundleCorrupt(f"array {name!r} holds values that are not finite")
        try:
            self._offset = arrays["normaliser_offset"].astype(np.float32)
            self._scale = arrays["normaliser_scale"].astype(np.float32)
            clip = arrays["normaliser_clip"].astype(np.float32)
        except KeyError as error:
            raise BundleCorrupt(f"the normaliser's array {error} is missing") from None
        if self._offset.ndim != 1 or self._scale.shape != self._offset.shape or clip.shape != ():
            raise BundleCorrupt(
                f"the normaliser's offset {self._offset.shape}, scale {self._scale.shape} and clip "
                f"{clip.shape} do not fit; expected (D,), (D,) and ()"
            )
        if np.any(self._scale <= 0) or clip <= 0:
            raise BundleCorrupt("the normaliser's scale and clip must be above 0")
        # a clip that lies beyond float32 lies beyond every context, and must not overflow
        reach = np.minimum(clip / self._scale, np.float32(FLOAT32_MAX / 2))
        self._least = np.maximum(self._offset - reach, np.float32(-FLOAT32_MAX))
        self._most = np.minimum(self._offset + reach, np.float32(FLOAT32_MAX))
        ends = self.normalise(np.stack([self._least, self._most]))
        # rounding is monotone, so nothing between the ends leaves them: [D]
        farthest = np.abs(ends).max(axis=0).astype(np.float64)
        refuse_unbounded(farthest, "normalised observation")
        self._head = head
        self.actions = actions
        self.largest_bonus = 0.0  # that optimism can add to a score
        self._score: Callable[[Array], Array]
        self._posterior: Callable[[Array], tuple[Array, Array]] | None = None
        network = compile_network(operations, arrays)
        farthest = check_bounded(operations, arrays, farthest)
        if head.kind in ("linear", "thompson"):
            most = abs(head.alpha) if head.kind == "linear" else head.scale
            moments, largest = _linear(arrays, most, farthest)
            self._posterior = _after(network, moments)
            if head.kind == "linear":
                self._score, self.largest_bonus = _optimistic(self._posterior, head.alpha), largest
            else:
                self._score = _expected(self._posterior)
        elif head.kind == "c51":
            self._score = _after(network, _categorical(arrays, actions, len(farthest)))
        else:
            self._score = network
        width = self.scores(np.zeros((1, self._offset.shape[0]), np.float32)).shape
        if width != (1, actions):
            raise BundleCorrupt(f"the network answers {width[1:]} scores for {actions} actions")

    @property
    def scores_are_rewards(self) -> bool:
        """Whether a score is an expectation in the game's rewards; a softmax's are logits."""
        return self._head.kind != "softmax"

    @property
    def dimensions(self) -> int:
        """Numbers of an observation, D."""
        return len(self._offset)

    def normalise(self, observations: Array) -> Array:
        """`clip((x − offset) · scale)`: float32 `[B, D]` → `[B, D]`."""
        # clipped before it is scaled: a context near float32's limit must not overflow
        x: Array = np.maximum(observations, self._least)
        np.minimum(x, self._most, out=x)
        x -= self._offset
        x *= self._scale
        return x

    def scores(self, observations: Array) -> Array:
        """Score of every action: float32 `[B, D]` → `[B, A]`."""
        return self._score(self.normalise(observations))

    def distribution(self, observations: Array, eligible: Array) -> Array:
        """Probability of every action, zero where not eligible.

        Args:
            observations: float32 `[B, D]`
            eligible: bool `[B, A]`, at least one True a row

        Returns:
            float64 `[B, A]`, each row sums to 1.
        """
        if self._head.kind == "thompson":
            assert self._posterior is not None
            mean, spread = self._posterior(self.normalise(observations))
            deviation = self._head.scale * np.sqrt(spread.astype(np.float64))
            return probability_of_being_best(mean, deviation, eligible)
        scores = np.where(eligible, self.scores(observations), -np.inf)
        if self._head.kind == "softmax":
            logits = scores.astype(np.float64) / self._head.temperature
            weights = np.exp(logits - logits.max(axis=1, keepdims=True))
            return np.asarray(weights / weights.sum(axis=1, keepdims=True))
        probabilities = np.zeros(scores.shape, dtype=np.float64)
        if len(scores) == 1:  # the same, for the one row of a request
            probabilities[0, scores.argmax()] = 1.0
        else:
            probabilities[np.arange(len(scores)), scores.argmax(axis=1)] = 1.0
        return probabilities


def _linear(
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
        mean = x1 @ theta.T  # [B, A]
        spread = np.einsum("abi,bi->ba", x1 @ inverse, x1)
        return mean, np.maximum(spread, _ZERO)

    return moments, float(bonus.max())


def _categorical(arrays: Mapping[str, Array], actions: int, width: int) -> Callable[[Array], Array]:
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


def _after(network: Callable[[Array], Array], head: Callable[[Array], _T]) -> Callable[[Array], _T]:
    return lambda x: head(network(x))


def _optimistic(
    posterior: Callable[[Array], tuple[Array, Array]], alpha: float
) -> Callable[[Array], Array]:
    def score(x: Array) -> Array:
        mean, spread = posterior(x)
        return np.asarray(mean + alpha * np.sqrt(spread))

    return score


def _expected(posterior: Callable[[Array], tuple[Array, Array]]) -> Callable[[Array], Array]:
    return lambda x: posterior(x)[0]
