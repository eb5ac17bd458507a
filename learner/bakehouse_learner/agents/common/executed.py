"""What a stochastic policy would execute, in TensorFlow: `bakehouse_schemas.execution.propensity`
with gradients.

A network answers one logit for each choice, then mean and log-spread, before squashing, of each
number: the heads `softmax`, `tanh_gaussian` and `parts`. Tests hold the two equal.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bakehouse_learner.agents.common.squashed import log_slope, moments, strain
from bakehouse_learner.training.specs import Minibatch
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.execution.propensity import uniform_share
from bakehouse_schemas.policy.policy import Head

_NOT = -1e9  # the logit of a choice that is not eligible
_FOR_GOOD = 1 << 40  # decisions: exploration has come to its final value
# atanh in float32: beyond this, one rounding of the number moves z by more than a tenth
_FARTHEST = 1.0 - 1e-6
_HEADS = {"discrete": "softmax", "continuous": "tanh_gaussian", "parts": "parts"}
# Gauss–Hermite: E f(z), z ~ N(μ, σ), is Σ w f(μ + √2 σ x) / √π
_NODES, _WEIGHTS = np.polynomial.hermite.hermgauss(9)


class Executed:
    """Probabilities, or densities, of logged actions under a network's answer.

    Exploration's floor and its final share of uniform choice are mixed in, as they will be in
    serving: that is what earns the reward, so that is what is learned for.
    """

    def __init__(self, application: Application) -> None:
        shape = application.shape
        self.head = Head(kind=_HEADS[shape.kind])  # type: ignore[arg-type] # one of the three
        self._labels = shape.kind == "discrete"
        self._segments, self._dims = shape.segments, shape.dims
        self._choices = shape.segments[-1][1] if shape.segments else 0
        self.width = self._choices + 2 * shape.dims  # numbers that the network answers, K
        self._low, self._high = shape.low.astype(np.float32), shape.high.astype(np.float32)
        final = application.exploration.after(_FOR_GOOD)
        self._epsilon, self._floor = final.epsilon, final.floor
        self._number_share = uniform_share(final.epsilon, final.floor)

    def log_propensity(self, answer: Any, batch: Minibatch) -> Any:
        """Logarithm of the executed probability or density of each logged action: `[B, K]` → `[B]`.

        An action that was not eligible (the game did it all the same) counts as if it had been.
        """
        positions = batch.action[:, None] if self._labels else batch.action
        total = tf.zeros_like(batch.reward)
        for part, (start, stop) in enumerate(self._segments):
            at = tf.cast(positions[:, part], tf.int32)
            taken = tf.one_hot(at, stop - start)  # [B, n]
            possible = batch.eligible[:, start:stop] | (taken > 0)
            own = tf.nn.softmax(tf.where(possible, answer[:, start:stop], _NOT))
            count = tf.reduce_sum(tf.cast(possible, tf.float32), axis=1)
            share = tf.clip_by_value(self._floor * count, self._epsilon, 1.0)
            mine = tf.reduce_sum(own * taken, axis=1)
            total += tf.math.log((1.0 - share) * mine + share / count)
        if self._dims:
            total += self._log_density(answer, batch.action[:, len(self._segments) :])
        return total

    def _log_density(self, answer: Any, numbers: Any) -> Any:
        mean, log_std = self._numbers(answer)
        half = (self._high - self._low) / 2
        ratio = (numbers - self._low) / half - 1.0
        z = tf.math.atanh(tf.clip_by_value(ratio, -_FARTHEST, _FARTHEST))
        own = _log_normal((z - mean) * tf.exp(-log_std)) - log_std - log_slope(z)
        # in units of the box's own density, so that the sum below stays near one
        own += math.log(2.0)
        share = self._number_share
        mixed = tf.math.log((1.0 - share) * tf.exp(tf.minimum(own, 60.0)) + share)
        return tf.reduce_sum(mixed - np.log(2 * half), axis=1)

    def entropy(self, answer: Any, batch: Minibatch) -> Any:
        """Entropy of the policy's own distribution, of numbers relative to their box: `[B]`.

        0 is what the uniform density has, less is surer. Of the numbers by Gauss–Hermite
        quadrature: the entropy before squashing alone would reward means and spreads for
        running off to the ends of the box.
        """
        total = tf.zeros_like(batch.reward)
        for start, stop in self._segments:
            possible = batch.eligible[:, start:stop]
            log_own = tf.nn.log_softmax(tf.where(possible, answer[:, start:stop], _NOT))
            total -= tf.reduce_sum(tf.exp(log_own) * tf.where(possible, log_own, 0.0), axis=1)
        if self._dims:
            mean, log_std = self._numbers(answer)
            z = mean[..., None] + math.sqrt(2.0) * tf.exp(log_std)[..., None] * _NODES.astype("f4")
            slope = tf.reduce_sum(log_slope(z) * _WEIGHTS.astype("f4"), axis=2)
            slope /= math.sqrt(math.pi)
            before = 0.5 * math.log(2 * math.pi * math.e) + log_std
            total += tf.reduce_sum(before + slope - math.log(2.0), axis=1)
        return total

    def strain(self, answer: Any) -> Any:
        """How far means and spreads have run beyond where they are of use, squared: `[B]`."""
        if not self._dims:
            return tf.zeros_like(answer[:, 0])
        return strain(answer[:, -2 * self._dims :])

    def _numbers(self, answer: Any) -> tuple[Any, Any]:
        """Mean and log-spread before squashing, as the head reads them: `[B, d]` each."""
        return moments(answer[:, -2 * self._dims :])


def _log_normal(deviation: Any) -> Any:
    return -0.5 * deviation * deviation - 0.5 * math.log(2 * math.pi)
