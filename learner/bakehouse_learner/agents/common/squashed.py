"""Numbers drawn from a normal and squashed by tanh, with the density that they were drawn at.

The density is taken where the draw is, before squashing: in float32 an atanh of a number next to
the end of its box is no number.
"""

from __future__ import annotations

import math
from typing import Any

from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.policy.policy import LOG_STD

# Where tanh is flat no slope reaches the actor; a spread this small has no more to gain.
FARTHEST_MEAN, LEAST_LOG_STD = 2.5, -3.5


def moments(answer: Any) -> tuple[Any, Any]:
    """Mean and log-spread before squashing, as the head `tanh_gaussian` reads them.

    float32 `[B, 2d]` → `[B, d]` each.
    """
    mean, log_std = tf.split(answer, 2, axis=-1)
    return mean, tf.clip_by_value(log_std, *LOG_STD)


def drawn(answer: Any, noise: Any) -> tuple[Any, Any]:
    """An action in [−1, 1] and its log-density, both differentiable by the answer.

    Args:
        answer: float32 `[B, 2d]`
        noise: standard normal, float32 `[…, B, d]`

    Returns:
        float32 `[…, B, d]` and `[…, B]`; the density is over [−1, 1], not over the box.
    """
    mean, log_std = moments(answer)
    z = mean + tf.exp(log_std) * noise
    log_normal = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
    return tf.tanh(z), tf.reduce_sum(log_normal - log_slope(z), axis=-1)


def log_slope(z: Any) -> Any:
    """`log(1 − tanh²z)`, which does not cancel."""
    return 2.0 * (math.log(2.0) - z - tf.math.softplus(-2.0 * z))


def strain(answer: Any) -> Any:
    """How far means and spreads have run beyond where they are of use, squared: `[B]`."""
    mean, log_std = tf.split(answer, 2, axis=-1)
    far = tf.nn.relu(tf.abs(mean) - FARTHEST_MEAN)
    narrow, wide = tf.nn.relu(LEAST_LOG_STD - log_std), tf.nn.relu(log_std)
    return tf.reduce_sum(far**2 + narrow**2 + wide**2, axis=-1)
