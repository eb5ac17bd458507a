"""Which subjects get what: by hash, so the answer is the same everywhere."""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class Role(NamedTuple):
    """What answers one subject now."""

    cohort: str
    by_policy: bool  # the policy in the slot
    explores: bool  # False: the pure baseline


FALLBACK = Role("fallback", by_policy=False, explores=False)
HOLDOUT = Role("holdout", by_policy=False, explores=False)
VERSION_0 = Role("policy", by_policy=False, explores=True)
CANARY = Role("canary", by_policy=True, explores=True)
POLICY = Role("policy", by_policy=True, explores=True)


def role_of(place: float, share: float, mode: str) -> Role:
    """What answers a subject, where nothing is killed.

    Args:
        place: see `place_in_rollout`.
        share: of the subjects outside the holdout that a policy answers; 0: there is none.
        mode: the application's.
    """
    if mode == "logging_only":
        return FALLBACK
    if place < 0:
        return HOLDOUT
    if share >= 1:
        return POLICY
    if place < share:
        return CANARY
    # an apprentice's rules are not explored: whom its policy does not answer gets them pure
    return FALLBACK if mode == "apprentice" else VERSION_0


def subject_share(application: str, subject_id: str) -> float:
    """A subject's fixed place in [0, 1), independent between applications."""
    digest = hashlib.blake2b(f"{application}/{subject_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def in_holdout(application: str, subject_id: str, holdout: float) -> bool:
    """Whether a subject gets the pure baseline."""
    return subject_share(application, subject_id) < holdout


def place_in_rollout(application: str, subject_id: str, holdout: float) -> float:
    """A subject's place in [0, 1) among those that policies may answer; negative in the holdout.

    A policy that answers a share of subjects answers those below it, so whoever it answers today
    it still answers when the share has grown.
    """
    return (subject_share(application, subject_id) - holdout) / (1.0 - holdout)
