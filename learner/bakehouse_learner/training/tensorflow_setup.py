"""The one place that imports TensorFlow, and what must be true before it is.

Every other file of the learner writes `from bakehouse_learner.training.tensorflow_setup import tf`.
"""

from __future__ import annotations

import os
import warnings

# our networks and TF-Agents' are written for Keras 2; read at the first import
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else it reports at length on missing GPUs

with warnings.catch_warnings():
    # it and its packages use what is deprecated: nothing that we could act on
    warnings.simplefilter("ignore")
    import tensorflow as tf

# Networks of this size gain nothing from a pool of threads and lose half of their speed to it
# (DQN, minibatch 64: 12 thousand a second with one thread, 8 thousand with two); one thread also
# adds in one order, so the same batches give the same weights.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.set_visible_devices([], "GPU")

__all__ = ["tf"]
