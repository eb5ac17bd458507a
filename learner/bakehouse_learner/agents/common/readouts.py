"""What the outputs of an agent's network mean, and how the reward's unit gets into a bundle."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from bakehouse_learner.agents.common.networks import export_network
from bakehouse_learner.training.reward_scale import RewardScale
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.policy.policy import Head

Operations = list[dict[str, Any]]
Arrays = dict[str, np.ndarray]


class Readout(Protocol):
    """Outputs `[B, K]` → scores `[B, A]`, in TensorFlow and in the bundle."""

    rewritten: bool  # the last layer is rewritten when the reward's unit moves

    def scores(self, outputs: Any, scale: RewardScale) -> Any:
        """float32 `[B, K]` → `[B, A]`"""

    def export(self, network: Any, scale: RewardScale) -> tuple[Operations, Head, Arrays]:
        """The same as a bundle carries it."""


class Values:
    """Each output is the value of an action, in units of the reward's spread."""

    rewritten = True

    def scores(self, outputs: Any, scale: RewardScale) -> Any:
        """In the game's reward."""
        return outputs * np.float32(scale.unit) + np.float32(scale.offset)

    def export(self, network: Any, scale: RewardScale) -> tuple[Operations, Head, Arrays]:
        """The unit is in the last layer."""
        operations, arrays = export_network(network, offset=scale.offset, unit=scale.unit)
        return operations, Head(kind="argmax"), arrays


class Logits:
    """Outputs are logits, or parameters of a density; rewards have no part in them.

    Args:
        head: how they become a policy.
    """

    rewritten = False

    def __init__(self, head: Head = Head(kind="softmax")) -> None:  # noqa: B008 - frozen
        self._head = head

    def scores(self, outputs: Any, scale: RewardScale) -> Any:  # noqa: ARG002 - a Readout's
        """As they are."""
        return outputs

    def export(
        self,
        network: Any,
        scale: RewardScale,  # noqa: ARG002 - a Readout's
    ) -> tuple[Operations, Head, Arrays]:
        """As they are."""
        operations, arrays = export_network(network)
        return operations, self._head, arrays


class Numbers:
    """Outputs, squashed by tanh, are numbers in [−1, 1] of their boxes; rewards have no part."""

    rewritten = False

    def scores(self, outputs: Any, scale: RewardScale) -> Any:  # noqa: ARG002 - a Readout's
        """In [−1, 1]."""
        return tf.tanh(outputs)

    def export(
        self,
        network: Any,
        scale: RewardScale,  # noqa: ARG002 - a Readout's
    ) -> tuple[Operations, Head, Arrays]:
        """With the squashing as a last operation."""
        operations, arrays = export_network(network)
        return [*operations, {"op": "tanh"}], Head(kind="gaussian"), arrays


class Categorical:
    """Outputs are logits of each action's return over a support; the score is its mean.

    No rewriting of a last layer keeps a distribution the same when the unit moves, so the support
    moves instead. It moves alike for every action: the order of the actions stays.

    Args:
        support: in units of the reward's spread, float32 `[N]`
    """

    rewritten = False

    def __init__(self, support: np.ndarray) -> None:
        self.support = support

    def scores(self, outputs: Any, scale: RewardScale) -> Any:
        """Expected return, in the game's reward."""
        expected = self.expected(self.logits(outputs))
        return expected * np.float32(scale.unit) + np.float32(scale.offset)

    def export(self, network: Any, scale: RewardScale) -> tuple[Operations, Head, Arrays]:
        """The unit is in the support."""
        operations, arrays = export_network(network)
        support = self.support.astype(np.float64) * scale.unit + scale.offset
        arrays["support"] = support.astype(np.float32)
        return operations, Head(kind="c51"), arrays

    def logits(self, outputs: Any) -> Any:
        """`[B, A · N]` → `[B, A, N]`"""
        atoms = len(self.support)
        return tf.reshape(outputs, [-1, outputs.shape[-1] // atoms, atoms])

    def expected(self, logits: Any) -> Any:
        """Mean of each distribution, in units: `[…, N]` → `[…]`."""
        return tf.linalg.matvec(tf.nn.softmax(logits), self.support)
