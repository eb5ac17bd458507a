"""Which subjects stay on the baseline: by hash, so the answer is the same everywhere."""

from __future__ import annotations

import hashlib


def subject_share(application: str, subject_id: str) -> float:
    """A subject's fixed place in [0, 1), independent between applications."""
    digest = hashlib.blake2b(f"{application}/{subject_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def in_holdout(application: str, subject_id: str, holdout: float) -> bool:
    """Whether a subject gets the pure baseline."""
    return subject_share(application, subject_id) < holdout
