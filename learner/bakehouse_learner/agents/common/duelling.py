"""The last layer of a duelling network: what a state is worth, and what each action adds.

`Q = V + A − mean A` (Wang et al. 2016, https://arxiv.org/abs/1511.06581). Both streams are
linear in the last hidden layer, so the bundle carries them folded into one dense layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bakehouse_learner.training.tensorflow_setup import tf


class Duelling(tf.keras.layers.Layer):  # type: ignore[misc]  # TensorFlow has no types
    """`[B, H]` → `[B, A · N]`, N numbers for each action.

    Args:
        split: the first half of the features is the value's, the second the advantages': the
            streams have their last hidden layer to themselves.
    """

    def __init__(self, actions: int, atoms: int, *, split: bool) -> None:
        super().__init__()
        self.actions, self.atoms, self.split = actions, atoms, split

    def build(self, shape: Any) -> None:
        """Kernels and biases of the two streams."""
        inputs = int(shape[-1])
        self.border = inputs // 2 if self.split else inputs
        advantages = inputs - self.border if self.split else inputs
        outputs = self.actions * self.atoms
        self.value_kernel = self.add_weight(name="value", shape=(self.border, self.atoms))
        self.value_bias = self.add_weight(name="value_bias", shape=(self.atoms,))
        self.advantage_kernel = self.add_weight(name="advantage", shape=(advantages, outputs))
        self.advantage_bias = self.add_weight(name="advantage_bias", shape=(outputs,))
        super().build(shape)

    def call(self, x: Any) -> Any:
        """See the class."""
        of_value, of_advantages = (
            (x[:, : self.border], x[:, self.border :]) if self.split else (x, x)
        )
        value = of_value @ self.value_kernel + self.value_bias  # [B, N]
        advantage = of_advantages @ self.advantage_kernel + self.advantage_bias
        advantage = tf.reshape(advantage, [-1, self.actions, self.atoms])  # [B, A, N]
        advantage -= tf.reduce_mean(advantage, axis=1, keepdims=True)
        return tf.reshape(value[:, None] + advantage, [-1, self.actions * self.atoms])

    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        """The same as one dense layer: weight `[H, A · N]`, bias `[A · N]`."""
        value = np.tile(self.value_kernel.numpy().astype(np.float64), self.actions)
        advantage = self._less_mean(self.advantage_kernel)
        weight = np.concatenate([value, advantage]) if self.split else value + advantage
        bias = np.tile(self.value_bias.numpy().astype(np.float64), self.actions)
        bias = bias + self._less_mean(self.advantage_bias)
        return weight.astype(np.float32), bias.astype(np.float32)

    def _less_mean(self, variable: Any) -> np.ndarray:
        array = variable.numpy().astype(np.float64)
        of_actions = array.reshape(*array.shape[:-1], self.actions, self.atoms)
        less = of_actions - of_actions.mean(axis=-2, keepdims=True)
        return np.asarray(less.reshape(array.shape))
