"""What one training made, and what was decided about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bakehouse_learner.gate.report import GateReport
from bakehouse_learner.training.agent import Exported
from bakehouse_schemas.application.exploration import Exploration


@dataclass(frozen=True)
class Candidate:
    """What one training made."""

    version: int
    exported: Exported | None  # None: its numbers, or its losses, were not finite
    report: GateReport
    losses: dict[str, float]
    replay_version: int
    stream_time_ms: int
    experiences: int
    new_experiences: int
    outcomes_received_at_ms: list[int]  # new since the last published version
    exploration: Exploration
    golden_observations: np.ndarray  # float32 [G, D]
    golden_eligible: np.ndarray  # bool [G, A]
    golden_items: np.ndarray | None = None  # float32 [G, A, F], of a ranking
    seconds: dict[str, float] = field(default_factory=dict)  # where the time went
    last_freeze: Mapping[str, Any] | None = None  # by the gate, since the last publication
