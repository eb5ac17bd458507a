"""The one place that imports TensorFlow, and what must be true before it is.

Every other file of the learner writes `from bakehouse_learner.training.tensorflow_setup import tf`.
"""

from __future__ import annotations

import os
import warnings

# Keras 3 breaks TF-Agents' networks; read at the first import
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else it reports at length on missing GPUs

with warnings.catch_warnings():
    # TF-Agents and TensorFlow Probability parse versions with distutils and compare literals
    # by identity: nothing that we could act on
    warnings.simplefilter("ignore")
    import tensorflow as tf
    from tf_agents.bandits.policies import policy_utilities as _policy_utilities

# Networks of this size gain nothing from a pool of threads and lose half of their speed to it
# (DQN, minibatch 64: 12 thousand a second with one thread, 8 thousand with two); one thread also
# adds in one order, so the same batches give the same weights.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.set_visible_devices([], "GPU")

POLICY_INFO = _policy_utilities.InfoFields

__all__ = ["POLICY_INFO", "tf"]
