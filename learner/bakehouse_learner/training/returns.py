"""n-step returns of episodic decisions, from the successors that are resident. Pure.

`R = r₀ + γ r₁ + … + γ^(k−1) r_(k−1)`, bootstrapped with `γ^k` from the last one's successor; k is
n, or as many as there are. Lengthened when later successors arrive (Sutton & Barto 2018, 7.1).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Chain(NamedTuple):
    """What the returns of an episodic problem are made from, by slot `[C]`."""

    reward: np.ndarray  # float64, of the decision alone (imputed where still open)
    known: np.ndarray  # bool, the reward may be used
    terminal: np.ndarray  # bool, nothing follows
    has_next: np.ndarray  # bool, the successor's observation is known
    following: np.ndarray  # int64, slot of the resident successor; −1: none


class Returns(NamedTuple):
    """Returns of the asked slots `[n]`."""

    reward: np.ndarray  # float64, discounted sum of k rewards
    discount: np.ndarray  # float64, γ^k; 0 where the return is complete
    last: np.ndarray  # int64, slot whose successor is bootstrapped from
    trainable: np.ndarray  # bool, the return is complete or can be bootstrapped


def n_step_returns(chain: Chain, slots: np.ndarray, *, discount: float, n_step: int) -> Returns:
    """Returns of `slots`, int64 `[n]`; see `Chain` and `Returns`."""
    total = chain.reward[slots].astype(np.float64)
    power = np.full(len(slots), discount)
    last = slots.copy()
    for _ in range(n_step - 1):
        following = np.where(chain.terminal[last], -1, chain.following[last])
        # a successor that cannot itself be continued would make a return of unknown length
        onward = (following >= 0) & chain.known[following]
        onward &= chain.terminal[following] | chain.has_next[following]
        if not onward.any():
            break
        total += np.where(onward, power * chain.reward[following], 0.0)
        power = np.where(onward, power * discount, power)
        last = np.where(onward, following, last)
    terminal = chain.terminal[last]
    return Returns(
        reward=total,
        discount=np.where(terminal, 0.0, power),
        last=last,
        trainable=chain.known[slots] & (terminal | chain.has_next[last]),
    )
