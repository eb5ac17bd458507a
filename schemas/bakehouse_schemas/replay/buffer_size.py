"""How many decisions must stay resident for one to mature, and what memory they take.

A decision teaches the gate once it has matured, and only while it is in the learner's buffer.
"""

from __future__ import annotations

import math
from datetime import timedelta

from bakehouse_schemas.application.application import Application, Episodic

SPARE = 1.25  # rates vary, and what has matured must stay long enough to be taken
# Beside its columns a decision keeps its id, what the fold needs of it, and a place in an index:
# measured 470 to 710 bytes, with 1 to 3 outcomes.
BESIDE_COLUMNS = 700


def waited_for(application: Application) -> timedelta:
    """How long after a decision something may still be awaited of it.

    The reward's window, and of episodes the timeout after which the last decision has no
    successor. What closes decisions earlier (`closes_after`, an `end`) is not counted on.
    """
    problem = application.problem
    timeout = problem.timeout if isinstance(problem, Episodic) else timedelta(0)
    return application.reward.window + timeout


def buffer_needed(application: Application, per_s: float) -> int:
    """Decisions that must stay resident at this many a second, with some to spare; two digits."""
    needed = max(per_s * waited_for(application).total_seconds() * SPARE, 100.0)
    unit = 10.0 ** (math.floor(math.log10(needed)) - 1)
    return round(math.ceil(needed / unit - 1e-9) * unit)


def rate_carried(application: Application) -> float:
    """Decisions a second up to which each can mature in the application's buffer."""
    return application.training.buffer / waited_for(application).total_seconds()


def bytes_each(application: Application) -> int:
    """Memory that a resident decision takes, columns and the rest; an estimate."""
    shape, width = application.shape, application.encoder.size
    episodic = isinstance(application.problem, Episodic)
    labels = shape.kind == "discrete"
    columns = 120 + 8 * len(application.gate.guardrails)  # numbers and marks that all have
    columns += (4 * width + shape.choices) * (2 if episodic else 1)  # its successor's, too
    columns += 2 * (4 if labels else 8 * shape.width)  # executed, and the baseline's
    columns += 12 * shape.choices if labels else 20  # candidate, anchor and reward model
    if shape.kind == "ranking":
        columns += 4 * shape.choices * shape.features
    if shape.kind == "parts":
        columns += 8 * len(shape.segments)
    return columns + BESIDE_COLUMNS
