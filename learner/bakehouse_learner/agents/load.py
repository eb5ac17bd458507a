"""TensorFlow is imported without the lines that it and its packages write while they load."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bakehouse_learner.training.agent import Setup, TrainableAgent


def load_agents() -> Callable[[Setup], TrainableAgent]:
    """`bakehouse_learner.agents.build_agent`, with TensorFlow loaded (12 s)."""
    with _silence():
        from bakehouse_learner.agents import build_agent
        from bakehouse_learner.training.tensorflow_setup import tf

        tf.zeros(1)  # its runtime starts with the first tensor, and has something to say too
    return build_agent


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps standard error, its descriptor included, for the case that something is raised."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        before = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            os.dup2(before, 2)
            kept.seek(0)
            sys.stderr.write(kept.read().decode(errors="replace"))
            raise
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
