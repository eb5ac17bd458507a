"""Which decisions an agent on policy learns from: those of the newest policies, without gaps. Pure.

What a policy earns says most about the policies next to it; what older ones did is left to agents
that learn from anybody's decisions. Version 0 is a policy like the others: until something newer
answers, all that is resident comes from it, and once `most` others have answered since, none of
it is used any more. However old, a row counts by its importance weight against the probability
at which it was logged, so this is a question of noise, never of bias.
"""

from __future__ import annotations

import numpy as np


def recent(
    version: np.ndarray, sequence: np.ndarray, support: np.ndarray, *, most: int
) -> np.ndarray:
    """Rows of policies that at most `most` others have followed. bool `[C]`

    Policies follow each other as they answered: one that was rolled back to is the newest again,
    and a candidate that answered nobody is none.

    Args:
        version: of the policy that decided, int `[C]`
        sequence: in which order, int `[C]`
        support: drawn by a policy, with a propensity that a weight may use, bool `[C]`; others
            (holdout, fallback, the game did something else) are never on policy.
    """
    rows = np.flatnonzero(support)
    newest_first = rows[np.argsort(-sequence[rows], kind="stable")]
    versions, first = np.unique(version[newest_first], return_index=True)
    kept = versions[np.argsort(first)][: most + 1]
    return np.asarray(support & np.isin(version, kept))


def without_gaps(on_policy: np.ndarray, following: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Rows whose return runs over decisions on policy alone. bool `[C]`

    Args:
        on_policy: bool `[C]`
        following: slot of the resident successor, −1: none. int `[C]`
        last: slot of the return's last decision, reached by `following`. int `[C]`
    """
    whole = on_policy.copy()
    at = np.arange(len(on_policy))
    while (moving := at != last).any():
        at = np.where(moving, following[at], at)
        whole &= on_policy[at]
    return whole
