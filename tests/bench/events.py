"""Events of the measured game, as serving would log them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from bakehouse_schemas.ids import uuid7
from tests.bench.game import application, world

LABELS = application.actions.labels


def decision_event(
    decision_id: str, rng: np.random.Generator, *, now_ms: int | None = None
) -> dict[str, Any]:
    """A record of `decisions.v1`: uniform exploration, version 0."""
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    context = world.context(rng)
    probabilities = dict.fromkeys(LABELS, 1 / len(LABELS))
    action = LABELS[rng.integers(len(LABELS))]
    return {
        "schema": "decision.v1",
        "decision_id": decision_id,
        "application": application.name,
        "contract": application.contract,
        "subject_id": f"player-{rng.integers(100_000)}",
        "decided_at_ms": now_ms,
        "context": context,
        "observation": application.encoder.encode(context).tolist(),
        "action": action,
        "propensity": probabilities[action],
        "action_probabilities": probabilities,
        "policy_version": 0,
        "exploration": {"kind": "epsilon_greedy", "epsilon": 1.0, "floor": 0.01},
        "draw": float(rng.random()),
        "mode": "online",
        "cohort": "policy",
        "explored": True,
        "baseline_action": application.baseline_action(context),
    }


def outcome_event(
    decision_id: str, rng: np.random.Generator, *, now_ms: int | None = None
) -> dict[str, Any]:
    """A record of `outcomes.v1`."""
    return {
        "schema": "outcome.v1",
        "outcome_id": uuid7(),
        "application": application.name,
        "decision_id": decision_id,
        "kind": "reward",
        "name": "bought" if rng.random() < 0.5 else "left",
        "occurred_at_ms": time.time_ns() // 1_000_000 if now_ms is None else now_ms,
    }
