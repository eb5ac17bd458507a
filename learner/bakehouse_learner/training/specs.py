"""An application's contract in TF-Agents' specs, and the ring's rows in its structures.

The only file that translates; agents get what TF-Agents wants from here.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.application.application import Application

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore"
    )  # the reasons stand in bakehouse_learner.training.tensorflow_setup
    from tf_agents.specs import tensor_spec
    from tf_agents.trajectories import policy_step, time_step, trajectory


class Specs(NamedTuple):
    """What TF-Agents' constructors take. An observation is the pair (values, mask)."""

    time_step: Any
    action: Any
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
    values = tf.TensorSpec([application.encoder.size], tf.float32, "values")
    actions = application.shape.choices
    # whole numbers: TF-Agents' bandit policies cannot take the maximum of a boolean mask
    mask = tf.TensorSpec([actions], tf.int32, "eligible")
    return Specs(
        time_step=time_step.time_step_spec((values, mask)),
        action=_action_spec(application),
        values=values,
        actions=actions,
    )


def _action_spec(application: Application) -> Any:
    shape = application.shape
    if shape.kind == "discrete":
        return tensor_spec.BoundedTensorSpec([], tf.int32, 0, shape.choices - 1, "action")
    if shape.kind == "continuous":
        return tensor_spec.BoundedTensorSpec(
            [shape.dims],
            tf.float32,
            shape.low.astype("float32"),
            shape.high.astype("float32"),
            "action",
        )
    return tensor_spec.TensorSpec([shape.width], tf.float32, "action")


def split_mask(observation: Any) -> tuple[Any, Any]:
    """TF-Agents' observation-and-action-constraint splitter."""
    return observation[0], observation[1]


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


def transition_of(batch: Minibatch) -> Any:
    """TF-Agents' Transition: γ^k travels in the next step's discount, so its own γ is 1."""
    rows = batch.reward.shape[0]
    middle = tf.fill([rows], tf.constant(time_step.StepType.MID, tf.int32))
    now = time_step.TimeStep(
        middle, tf.zeros([rows]), tf.ones([rows]), _masked(batch.values, batch.eligible)
    )
    then = time_step.TimeStep(
        middle, batch.reward, batch.discount, _masked(batch.next_values, batch.next_eligible)
    )
    return trajectory.Transition(now, policy_step.PolicyStep(batch.action, (), ()), then)


def first_step_of(values: Any, eligible: Any) -> Any:
    """TimeStep that asks a TF-Agents policy for an action: `[B, D]`, `[B, A]`."""
    rows = tf.shape(values)[0]
    first = tf.fill([rows], tf.constant(time_step.StepType.FIRST, tf.int32))
    return time_step.TimeStep(first, tf.zeros([rows]), tf.ones([rows]), _masked(values, eligible))


def _masked(values: Any, eligible: Any) -> tuple[Any, Any]:
    return values, tf.cast(eligible, tf.int32)
