"""TF-Agents, for the agents that learn by its losses or its linear models, and for no others.

The only file that imports TF-Agents, and the only one that translates: an application's contract
into its specs, a minibatch into its structures, a network of ours into one that its agents take.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

from bakehouse_learner.training.specs import Minibatch
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.application.application import Application

# It parses versions with distutils and compares literals by identity, and its Gym prints that
# nobody maintains it: nothing that we could act on.
with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
    warnings.simplefilter("ignore")
    from tf_agents.agents.dqn.dqn_agent import DdqnAgent
    from tf_agents.bandits.agents.greedy_reward_prediction_agent import GreedyRewardPredictionAgent
    from tf_agents.bandits.agents.lin_ucb_agent import LinearUCBAgent
    from tf_agents.bandits.agents.linear_thompson_sampling_agent import LinearThompsonSamplingAgent
    from tf_agents.networks import network as tf_agents_network
    from tf_agents.policies.utils import InfoFields
    from tf_agents.specs import tensor_spec
    from tf_agents.trajectories import policy_step, time_step, trajectory
    from tf_agents.utils.common import element_wise_squared_loss

__all__ = [
    "DdqnAgent",
    "GreedyRewardPredictionAgent",
    "InfoFields",
    "LinearThompsonSamplingAgent",
    "LinearUCBAgent",
    "adapted",
    "constructor_specs",
    "element_wise_squared_loss",
    "first_step_of",
    "split_mask",
    "transition_of",
]


def constructor_specs(application: Application) -> tuple[Any, Any]:
    """What its agents' constructors begin with: specs of time steps and of labelled actions.

    An observation is the pair (values, mask); see `split_mask`.
    """
    size, actions = application.encoder.size, application.shape.choices
    values = tf.TensorSpec([size], tf.float32, "values")
    # whole numbers: TF-Agents' bandit policies cannot take the maximum of a boolean mask
    mask = tf.TensorSpec([actions], tf.int32, "eligible")
    action = tensor_spec.BoundedTensorSpec([], tf.int32, 0, actions - 1, "action")
    return time_step.time_step_spec((values, mask)), action


def split_mask(observation: Any) -> tuple[Any, Any]:
    """TF-Agents' observation-and-action-constraint splitter."""
    return observation[0], observation[1]


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


def adapted(network: Any) -> Any:
    """A network of ours as TF-Agents' agents take one; the variables are the same."""
    return _Adapted(network, network.values)


class _Adapted(tf_agents_network.Network):  # type: ignore[misc]  # TF-Agents has no types
    def __init__(self, network: Any, values: Any) -> None:
        super().__init__(input_tensor_spec=values, state_spec=(), name="Adapted")
        self._network = network
        self._layers_of_network = network.layers  # by these Keras finds variables and regularisers

    def call(
        self,
        values: Any,
        step_type: Any = None,  # noqa: ARG002 - a Network's
        network_state: Any = (),
        training: bool = False,
    ) -> Any:
        return self._network(values, training=training), network_state
