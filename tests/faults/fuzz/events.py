"""What the targets of events share: a small application and valid events, always the same."""

from __future__ import annotations

import json
from typing import Any

from bakehouse_schemas.application.application import (
    Agent,
    Application,
    Continuous,
    Discrete,
    Parts,
    Ranking,
    minutes,
)
from bakehouse_schemas.application.observation import Boolean, Categorical, Numeric, Vector
from bakehouse_schemas.application.reward import Reward

NOW_MS = 1_800_000_000_000
TOPIC = "decisions"
FIRST = "01a3185c-5000-7000-8000-00000000000a"  # a UUIDv7 of about NOW_MS
SECOND = "01a3185c-5000-7000-8000-00000000000b"
TEXT = "match 7/é"  # an id that is no UUIDv7

APPLICATION = Application(
    name="shop",
    observation=[
        Numeric("skill", low=0, high=1, default=0.5),
        Categorical("plan", values=["free", "paid"], default="free"),
        Categorical("country", buckets=2, default="DE"),
        Boolean("new", default=False),
        Vector("days", length=2, default=[0.0, 1.0]),
    ],
    actions=Discrete("a", "b", "c"),
    reward=Reward({"bought": 1.0, "quit": -2.0}, window=minutes(1)),
    baseline=lambda context: "a",
)
_SKILL = [Numeric("skill", low=0, high=1)]
LOOK = Application(
    name="look",
    observation=_SKILL,
    actions=Parts({"size": Discrete("s", "l"), "speed": Continuous(low=0.5, high=2.0)}),
    agent=Agent("reinforce"),
    reward=APPLICATION.reward,
    baseline=lambda context: {"size": "s", "speed": [1.0]},
)
SHELF = Application(
    name="shelf",
    observation=_SKILL,
    actions=Ranking(k=2, item=[Numeric("price", low=0, high=100)], most_items=4),
    agent=Agent("rank"),
    reward=APPLICATION.reward,
    baseline=lambda context: [item["id"] for item in context["items"][:2]],
)
APPLICATIONS = {one.name: one for one in (APPLICATION, LOOK, SHELF)}
WORDS = (
    *("shop", "a", "b", "skill", "bought", FIRST, SECOND, TEXT, NOW_MS, {"a": 0.5, "b": 0.5}),
    *("look", "shelf", "size", "size=l", [1.0], {"id": "c", "price": 3}, "plackett_luce", "point"),
)
LOOKED: dict[str, Any] = {  # in place of what is of labels
    "application": "look",
    "contract": LOOK.contract,
    "context": {"skill": 0.5},
    "observation": [0.5],
    "action": {"size": "l", "speed": [1.75]},
    "propensity": 2.5,
    "action_probabilities": None,
    "density": {
        "kind": "truncated_normal",
        "probabilities": [0.25, 0.75],
        "mean": [1.5],
        "std": [0.25],
    },
    "eligible_actions": ["size=l"],
    "baseline_action": {"size": "s", "speed": [1.0]},
}
SHELVED: dict[str, Any] = LOOKED | {
    "application": "shelf",
    "contract": SHELF.contract,
    "items": [{"id": name, "price": 10} for name in "abc"],
    "action": ["c", "a"],
    "propensity": 0.125,
    "density": {"kind": "plackett_luce", "worths": [0.25, 0.25, 0.5, 0.0]},
    "eligible_actions": ["a", "c"],
    "baseline_action": ["a", "c"],
}


def decision(**changes: Any) -> bytes:
    """A valid record of `decisions.v1`."""
    event = {
        "schema": "decision.v1",
        "decision_id": FIRST,
        "application": "shop",
        "contract": APPLICATION.contract,
        "subject_id": "p1",
        "decided_at_ms": NOW_MS,
        "context": {"skill": 0.5, "plan": "free", "country": "DE", "new": True, "days": [1, 2.5]},
        "observation": [0.5, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 2.5],
        "action": "a",
        "propensity": 0.5,
        "action_probabilities": {"a": 0.5, "b": 0.25, "c": 0.25},
        "policy_version": 3,
        "cohort": "policy",
        **changes,
    }
    return json.dumps(event).encode()


def outcome(**changes: Any) -> bytes:
    """A valid record of `outcomes.v1`."""
    event = {
        "schema": "outcome.v1",
        "outcome_id": "o1",
        "application": "shop",
        "decision_id": FIRST,
        "kind": "reward",
        "name": "bought",
        "value": 2.5,
        "occurred_at_ms": NOW_MS,
        **changes,
    }
    return json.dumps(event).encode()
