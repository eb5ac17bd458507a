"""A policy: normaliser, network and head of a bundle, as one function in NumPy.

Serving answers with it, the learner evaluates with it: one implementation, so what is
evaluated is what is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bakehouse_schemas.application.shape import Shape, discrete_shape
from bakehouse_schemas.errors import BundleCorrupt
from bakehouse_schemas.execution.base_policy import BasePolicy
from bakehouse_schemas.policy.carried_numbers import between_boxes
from bakehouse_schemas.policy.network import Array, check_bounded, compile_network
from bakehouse_schemas.policy.normaliser import BoundedNormaliser
from bakehouse_schemas.policy.scores import (
    TOGETHER,
    categorical_values,
    each_alone,
    expected_score,
    head_after,
    linear_moments,
    optimistic,
)
from bakehouse_schemas.policy.thompson import probability_of_being_best

LOG_STD = (-10.0, 2.0)  # what a network may say of the logarithm of a spread


class Head(BaseModel):
    """How a network's answer becomes a policy's own distribution.

    `argmax`, `softmax`, `linear`, `thompson` and `c51` make probabilities of labels, of one score
    for each; `linear` and `thompson` read arrays `theta` and `inverse`, `c51` reads `support [N]`,
    and its network answers N logits for each action. `gaussian` reads a mean in [−1, 1] of each
    number's box and, where the network answers twice as many, the logarithm of its spread in half
    ranges; `tanh_gaussian` reads mean and log-spread before squashing; `parts` reads one logit for
    each choice, then mean and log-spread before squashing of each number. `plackett_luce` reads
    one score for each item.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal[
        "argmax",
        "softmax",
        "linear",
        "thompson",
        "c51",
        "gaussian",
        "tanh_gaussian",
        "parts",
        "plackett_luce",
    ]
    alpha: float = 0.0  # linear: width of the optimistic bonus
    scale: float = Field(default=1.0, ge=0)  # thompson: deviation of a reward about its mean
    temperature: float = Field(default=1.0, ge=1e-6)  # softmax, plackett_luce


class Policy:
    """The policy's own distribution, before exploration.

    Made only of arrays for which every score is finite, whatever observation comes: the
    normaliser bounds what the network sees, so this is known beforehand.

    Args:
        operations: the network (empty where the head takes the observation itself).
        head: how its scores become probabilities.
        arrays: `normaliser_offset [D]`, `normaliser_scale [D]`, `normaliser_clip []`, and what
            the network and head name. A network that scores items one by one, each behind the
            observation, has `item_offset [F]`, `item_scale [F]`, `item_clip []` too; where the
            items are the actions themselves, also their features, `action_features [A, F]`.
        actions: the action space, or the number of labels.

    A policy that was carried over from another contract (`carry.py`) answers numbers in the bounds
    `answered_low [d]`, `answered_high [d]`, and they are brought into those of `actions`.

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
        actions: int | Shape,
    ) -> None:
        for name, array in arrays.items():
            if not np.all(np.isfinite(array)):
                raise BundleCorrupt(f"array {name!r} holds values that are not finite")
        self.shape = discrete_shape(actions) if isinstance(actions, int) else actions
        normaliser = BoundedNormaliser(arrays, "normaliser")
        self.normalise = normaliser.apply
        self.dimensions = normaliser.size  # numbers of an observation, D
        farthest = normaliser.farthest
        self._items: BoundedNormaliser | None = None
        self._action_features: Array | None = None
        if self.shape.kind == "ranking" or "action_features" in arrays:
            self._items = BoundedNormaliser(arrays, "item")
            farthest = np.concatenate([farthest, self._items.farthest])
        if "action_features" in arrays:
            features = arrays["action_features"].astype(np.float32)
            assert self._items is not None
            if features.shape != (self.shape.choices, self._items.size):
                raise BundleCorrupt(
                    f"action_features has shape {features.shape}; expected "
                    f"{(self.shape.choices, self._items.size)}"
                )
            self._action_features = self._items.apply(features)
        elif self._items is not None and self._items.size != self.shape.features:
            raise BundleCorrupt(
                f"the policy reads {self._items.size} numbers of an item; expected "
                f"{self.shape.features}"
            )
        self._answered: tuple[Array, Array] | None = None
        if "answered_low" in arrays:
            low, high = (arrays[f"answered_{end}"].astype(np.float64) for end in ("low", "high"))
            if not low.shape == high.shape == self.shape.low.shape or np.any(low >= high):
                raise BundleCorrupt(
                    f"answered_low {low.tolist()!r:.100} and answered_high "
                    f"{high.tolist()!r:.100} are no bounds of {self.shape.dims} numbers"
                )
            self._answered = low, high
        self._head = head
        self.largest_bonus = 0.0  # that optimism can add to a score
        self._score: Callable[[Array], Array]
        self._posterior: Callable[[Array], tuple[Array, Array]] | None = None
        network = each_alone(compile_network(operations, arrays))
        farthest = check_bounded(operations, arrays, farthest)
        if head.kind in ("linear", "thompson"):
            most = abs(head.alpha) if head.kind == "linear" else head.scale
            moments, largest = linear_moments(arrays, most, farthest)
            self._posterior = head_after(network, moments)
            if head.kind == "linear":
                self._score, self.largest_bonus = optimistic(self._posterior, head.alpha), largest
            else:
                self._score = expected_score(self._posterior)
        elif head.kind == "c51":
            categorical = categorical_values(arrays, self.shape.choices, len(farthest))
            self._score = head_after(network, categorical)
        else:
            self._score = network
        items = None
        if self.shape.kind == "ranking":
            items = np.zeros((1, self.shape.choices, self.shape.features), np.float32)
        width = self.scores(np.zeros((1, self.dimensions), np.float32), items).shape
        if len(width) != 2 or width[1] not in self._widths():
            raise BundleCorrupt(
                f"the network answers {width[1:]} numbers for the head {head.kind!r} of "
                f"{self._counted()}; expected {' or '.join(map(str, self._widths()))}"
            )

    @property
    def scores_are_rewards(self) -> bool:
        """Whether a score is an expectation in the game's rewards; others are logits or numbers."""
        return self._head.kind in ("argmax", "linear", "thompson", "c51", "plackett_luce")

    @property
    def actions(self) -> int:
        """Choices that a mask covers, A."""
        return self.shape.choices

    def _counted(self) -> str:
        dims = f" and {self.shape.dims} numbers" if self.shape.dims else ""
        return f"{self.shape.choices} actions{dims}"

    def _widths(self) -> tuple[int, ...]:
        """Numbers that a network may answer for this head and shape."""
        shape = self.shape
        heads = {
            "discrete": ("gaussian", "tanh_gaussian", "parts", "plackett_luce"),  # those it has not
            "continuous": ("gaussian", "tanh_gaussian"),
            "parts": ("parts",),
            "ranking": ("plackett_luce",),
        }[shape.kind]
        if (self._head.kind in heads) == (shape.kind == "discrete"):
            raise BundleCorrupt(f"a {self._head.kind} head decides no {shape.kind} actions")
        match self._head.kind:
            case "gaussian":
                return (shape.dims, 2 * shape.dims)
            case "tanh_gaussian":
                return (2 * shape.dims,)
            case "parts":
                return (sum(stop - start for start, stop in shape.segments) + 2 * shape.dims,)
            case _:
                return (shape.choices,)

    def scores(self, observations: Array, items: Array | None = None) -> Array:
        """What the network answers: float32 `[B, D]` → `[B, K]`; of labels and items, K = A.

        Up to TOGETHER contexts are answered as each would be alone, to the last bit.

        Args:
            items: features of the items to rank, float32 `[B, A, F]`.
        """
        x = self.normalise(observations)
        if self._items is None:
            return self._score(x)
        if 1 < len(x) <= TOGETHER:
            each = [slice(row, row + 1) for row in range(len(x))]
            given = [None if items is None else items[one] for one in each]
            return np.concatenate(
                [self._described_scores(x[one], its) for one, its in zip(each, given, strict=True)]
            )
        return self._described_scores(x, items)

    def _described_scores(self, x: Array, items: Array | None) -> Array:
        """Of actions or items with features: x float32 `[B, D]`, normalised → `[B, A]`."""
        assert self._items is not None
        if self._action_features is not None:
            described = np.broadcast_to(
                self._action_features, (len(x), *self._action_features.shape)
            )
        else:
            assert items is not None
            described = self._items.apply(items)
        choices = described.shape[1]
        seen = np.broadcast_to(x[:, None], (len(x), choices, x.shape[1]))
        flat = np.concatenate([seen, described], axis=2).reshape(len(x) * choices, -1)
        return self._score(flat).reshape(len(x), choices)

    def distribution(
        self, observations: Array, eligible: Array, *, temperature: float | None = None
    ) -> Array:
        """Probability of every label, zero where not eligible.

        Args:
            observations: float32 `[B, D]`
            eligible: bool `[B, A]`, at least one True a row
            temperature: of a softmax over the scores, in place of the head's own choice.

        Returns:
            float64 `[B, A]`, each row sums to 1.
        """
        if self._head.kind == "thompson" and temperature is None:
            assert self._posterior is not None
            mean, spread = self._posterior(self.normalise(observations))
            deviation = self._head.scale * np.sqrt(spread.astype(np.float64))
            return probability_of_being_best(mean, deviation, eligible)
        scores = np.where(eligible, self.scores(observations), -np.inf)
        if temperature is not None:
            return softmax(scores, temperature)
        if self._head.kind == "softmax":
            return softmax(scores, self._head.temperature)
        probabilities = np.zeros(scores.shape, dtype=np.float64)
        if len(scores) == 1:  # the same, for the one row of a request
            probabilities[0, scores.argmax()] = 1.0
        else:
            probabilities[np.arange(len(scores)), scores.argmax(axis=1)] = 1.0
        return probabilities

    def base_policy(
        self,
        observations: Array,
        eligible: Array,
        items: Array | None = None,
        *,
        temperature: float | None = None,
    ) -> BasePolicy:
        """What the policy would do before exploration, of any kind of action; see
        `bakehouse_schemas.execution.base_policy`.

        Args:
            observations: float32 `[B, D]`
            eligible: bool `[B, A]`, of each discrete part at least one True a row
            items: float32 `[B, A, F]` where items are ranked
            temperature: see `distribution`.
        """
        shape, rows = self.shape, len(observations)
        nothing = np.zeros((rows, 0))
        if shape.kind == "discrete":
            return BasePolicy(
                self.distribution(observations, eligible, temperature=temperature), nothing, nothing
            )
        answer = self.scores(observations, items).astype(np.float64)
        if shape.kind == "ranking":
            scores = np.where(eligible, answer, -np.inf)
            worths = softmax(scores, temperature or self._head.temperature)
            return BasePolicy(worths, nothing, nothing)
        probabilities = np.ones((rows, shape.choices))
        for start, stop in shape.segments:
            logits = np.where(eligible[:, start:stop], answer[:, start:stop], -np.inf)
            probabilities[:, start:stop] = softmax(logits, temperature or self._head.temperature)
        numbers = answer[:, -2 * shape.dims :] if shape.dims else nothing
        if self._head.kind == "gaussian":
            low, high = (shape.low, shape.high) if self._answered is None else self._answered
            half, middle = (high - low) / 2, (high + low) / 2
            mean = middle + half * np.clip(answer[:, : shape.dims], -1.0, 1.0)
            if self._answered is not None:
                mean = np.clip(mean, shape.low, shape.high)
            std = np.zeros_like(mean)
            if answer.shape[1] > shape.dims:
                std = half * np.exp(np.clip(answer[:, shape.dims :], *LOG_STD))
            return BasePolicy(probabilities, mean, std)
        mean, log_std = numbers[:, : shape.dims], numbers[:, shape.dims :]
        std = np.exp(np.clip(log_std, *LOG_STD))
        if self._answered is not None:
            mean, std = between_boxes(mean, std, self._answered, (shape.low, shape.high))
        return BasePolicy(probabilities, mean, std, squashed=True)


def softmax(scores: Array, temperature: float) -> Array:
    """`exp(score / temperature)`, adding up to 1 over the last dimension. float64"""
    logits = scores.astype(np.float64) / temperature
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))
