"""For whom a decision was made, by whom and how.

Agents train on none of it. The gate reads the subject, as players and not decisions count; all else
is for figures.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

from bakehouse_schemas.application.exploration import LoggedExploration
from bakehouse_schemas.application.shape import Shape
from bakehouse_schemas.errors import InvalidEvent
from bakehouse_schemas.events.validation import validated
from bakehouse_schemas.execution.choice import chance_of_exploring
from bakehouse_schemas.execution.logged_density import base_policy_from_density
from bakehouse_schemas.worlds.world import SIMULATED

FALLBACK, POLICY, CANARY, HOLDOUT = range(4)
COHORTS = {"fallback": FALLBACK, "policy": POLICY, "canary": CANARY, "holdout": HOLDOUT}
ONE_IN = 8  # of decisions that are no labels: how likely exploring was is worked out for these
_REMEMBERED = 10_000


class Origin(NamedTuple):
    """What the log says of one decision beside what is learned from."""

    subject: int = 0  # 64 bits that stand for the subject, other bits than its cohort hangs on
    simulated: bool = False
    cohort: int = FALLBACK
    online: bool = False  # in mode `online`, in which a cohort hangs on the subject alone
    explored: bool = False
    chance: float = math.nan  # that `explored` would be true; NaN: not known
    factors: tuple[float, ...] = ()  # of several parts: each part's own propensity


UNKNOWN = Origin()


def subject_hash(subject_id: str) -> int:
    """64 bits of a subject, independent of its place in a rollout (`decisions.cohort`)."""
    digest = hashlib.blake2b(subject_id.encode(), digest_size=8, person=b"subjects").digest()
    return int.from_bytes(digest, "big")


class Origins:
    """Reads the origins of one application's decisions."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._labels = shape.kind == "discrete"
        self._parts = len(shape.segments) if shape.kind == "parts" else 0
        self._chances: dict[str, float] = {}  # of labels: distribution as logged → chance
        self._subjects: dict[str | None, tuple[int, bool]] = {}
        self._seen = 0

    def of(
        self,
        row: Mapping[str, Any],
        density: Mapping[str, Any] | None,
        eligible: np.ndarray,
        *,
        ours: bool = True,
    ) -> Origin:
        """The origin of a row of the table `replay`; UNKNOWN where it cannot be read.

        Args:
            density: the logged one, out of its JSON.
            eligible: bool `[A]`
            ours: of the application's contract; the density of another may be of another shape.
        """
        try:
            return self._of(row, density if ours else None, eligible)
        except (ValueError, TypeError, KeyError, AttributeError, InvalidEvent):
            return UNKNOWN  # costs the figures this row, and training nothing

    def _of(
        self, row: Mapping[str, Any], density: Mapping[str, Any] | None, eligible: np.ndarray
    ) -> Origin:
        cohort = COHORTS.get(row["cohort"], FALLBACK)
        subject = self._subjects.get(row["subject_id"]) or self._subject(row["subject_id"])
        chance = math.nan
        if cohort in (POLICY, CANARY):
            known = self._chances.get(row["action_probabilities"]) if self._labels else None
            chance = self._chance(row, density, eligible) if known is None else known
        factors = self._factors(density) if self._parts else ()
        # by position: this is done for every row that is read
        return Origin(
            *subject, cohort, row["mode"] == "online", bool(row["explored"]), chance, factors
        )

    def _subject(self, subject_id: str | None) -> tuple[int, bool]:
        if subject_id is None:
            return 0, False
        if len(self._subjects) >= _REMEMBERED:
            self._subjects.clear()
        known = subject_hash(subject_id), subject_id.startswith(SIMULATED)
        self._subjects[subject_id] = known
        return known

    def _factors(self, density: Mapping[str, Any] | None) -> tuple[float, ...]:
        factors = (density or {}).get("factors", ())
        if len(factors) < self._parts:
            return (math.nan,) * self._parts
        return tuple(float(factor) for factor in factors[: self._parts])

    def _chance(
        self, row: Mapping[str, Any], density: Mapping[str, Any] | None, eligible: np.ndarray
    ) -> float:
        if self._labels:
            return self._of_labels(row["action_probabilities"])
        self._seen += 1
        if density is None or row["exploration"] is None or self._seen % ONE_IN:
            return math.nan
        if density.get("kind") == "point":
            return 0.0
        exploration = validated(LoggedExploration, json.loads(row["exploration"]))
        base_policy = base_policy_from_density(self._shape, dict(density))
        return chance_of_exploring(self._shape, base_policy, eligible, exploration)

    def _of_labels(self, logged: str | None) -> float:
        """All but the likeliest label: exploration leaves the policy's order as it is."""
        if logged is None:
            return math.nan
        if len(self._chances) >= _REMEMBERED:
            self._chances.clear()
        chance = 1.0 - max(orjson.loads(logged).values(), default=math.nan)
        self._chances[logged] = chance
        return chance
