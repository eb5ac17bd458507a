"""An application's contract as shapes of tensors: a network's input, and a minibatch."""

from __future__ import annotations

from typing import Any, NamedTuple

from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.application.application import Application


class Specs(NamedTuple):
    """What a network of the application reads, and how many actions there are."""

    values: Any  # the network's input, float32 [D]
    actions: int


class Minibatch(NamedTuple):
    """One minibatch inside the compiled function; values normalised, shapes fixed."""

    values: Any  # float32 [B, D]
    eligible: Any  # bool    [B, A]
    action: Any  # int32   [B], positions of labels; else float32 [B, W]
    reward: Any  # float32 [B]
    discount: Any  # float32 [B]
    next_values: Any  # float32 [B, D]
    next_eligible: Any  # bool    [B, A]
    weight: Any  # float32 [B], mean 1
    propensity: Any  # float32 [B], as logged
    items: Any  # float32 [B, A, F], normalised, of a ranking; else [B, 0, 0]


def specs_of(application: Application) -> Specs:
    """Specs of an application's observation and actions."""
    return Specs(
        values=tf.TensorSpec([application.encoder.size], tf.float32, "values"),
        actions=application.shape.choices,
    )


def minibatch_signature(application: Application, *lead: int) -> Minibatch:
    """TensorSpecs of a minibatch with these leading dimensions."""
    size, shape = application.encoder.size, application.shape
    actions, labels = shape.choices, shape.kind == "discrete"
    described = (shape.choices, shape.features) if shape.kind == "ranking" else (0, 0)
    return Minibatch(
        values=tf.TensorSpec([*lead, size], tf.float32),
        eligible=tf.TensorSpec([*lead, actions], tf.bool),
        action=(
            tf.TensorSpec([*lead], tf.int32)
            if labels
            else tf.TensorSpec([*lead, shape.width], tf.float32)
        ),
        reward=tf.TensorSpec([*lead], tf.float32),
        discount=tf.TensorSpec([*lead], tf.float32),
        next_values=tf.TensorSpec([*lead, size], tf.float32),
        next_eligible=tf.TensorSpec([*lead, actions], tf.bool),
        weight=tf.TensorSpec([*lead], tf.float32),
        propensity=tf.TensorSpec([*lead], tf.float32),
        items=tf.TensorSpec([*lead, *described], tf.float32),
    )
