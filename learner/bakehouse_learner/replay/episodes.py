"""Which episodes in a ring are over, and which decisions were theirs?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bakehouse_learner.replay.ring import Ring
from bakehouse_schemas.application.application import Bandit, Episodic


class Finished(NamedTuple):
    """Whole episodes in the order in which they began, and why others are not among them."""

    members: list[np.ndarray]  # slots of each, from its first decision to its last
    still_going_on: int  # that one, and all that began after the first of them
    unusable: int  # broken by a contested decision, or one that is gone; or cut off by a timeout


def finished_episodes(ring: Ring, problem: Episodic) -> Finished:
    """Episodes of which everything is known, up to the first that is still going on.

    Those that began later wait even if they are over: else short episodes would lead.
    """
    members: list[np.ndarray] = []
    unusable = 0
    begun = np.arange(ring.tail, ring.head) % ring.capacity
    begun = begun[ring.first[begun]]
    for at, slot in enumerate(begun):
        episode = finished_episode(ring, int(slot), problem)
        if episode is None:
            return Finished(members, len(begun) - at, unusable)
        if episode:
            members.append(np.array(episode))
        else:
            unusable += 1
    return Finished(members, 0, unusable)


def episodes_from(
    ring: Ring, sequence: int, problem: Bandit | Episodic
) -> tuple[list[np.ndarray], int]:
    """Episodes that began from a sequence number on, up to the first that is still going on.

    Of a bandit each decision is one. Those that cannot be used are passed over.

    Returns:
        Slots of each, from its first decision to its last; the sequence number to go on from.
    """
    episodes: list[np.ndarray] = []
    while sequence < ring.head:
        slot = sequence % ring.capacity
        if ring.first[slot] or not ring.episodic:
            episode = finished_episode(ring, slot, problem)
            if episode is None:
                break  # still going on: those that began later wait, else short ones lead
            if episode:
                episodes.append(np.array(episode))
        sequence += 1
    return episodes, sequence


def finished_episode(ring: Ring, slot: int, problem: Bandit | Episodic) -> list[int] | None:
    """Slots of a finished episode; empty if it cannot be used, None if it is going on.

    Of a bandit each decision is one.
    """
    members = [slot]
    while True:
        if not ring.usable[slot]:
            return []
        if not ring.matured[slot]:
            return None
        if ring.ended[slot] or not isinstance(problem, Episodic):
            return members
        if ring.has_next[slot]:
            following = int(ring.next_sequence[slot])
            if following < ring.tail:
                # not read yet, or gone from the buffer before its predecessor
                return None if following < 0 else []
            slot = following % ring.capacity
            members.append(slot)
        elif ring.timed_out[slot]:
            return members if problem.on_timeout == "terminal" else []
        else:
            return None


def discounted(rewards: np.ndarray, discount: float) -> float:
    """An episode's return: `Σ γᵗ r_t` over its rewards in order, float `[T]`."""
    return float(np.sum(rewards * discount ** np.arange(len(rewards))))


def terminal_slots(ring: Ring, problem: Bandit | Episodic) -> np.ndarray:
    """Which decisions nothing follows: `end` came, or the timeout passed. bool `[C]`"""
    if isinstance(problem, Episodic) and problem.on_timeout == "terminal":
        return np.asarray(ring.ended | (ring.timed_out & ~ring.has_next))
    return ring.ended
