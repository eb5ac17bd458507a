"""Which subjects get what: by hash, so the answer is the same everywhere."""

from __future__ import annotations

import hashlib


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
